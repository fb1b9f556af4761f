"""When a `DRConv2d` runs as one call of a backend instead of stage by stage, and that call."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from drconv.errors import DrconvError
from drconv.kernels import Inference, LayerParameters, choose_backend, forget_packed
from drconv.layers.base import RegionLayer
from drconv.layers.filter_generator import BasisFilterGenerator, LearnedFilters, PooledFilterGenerator
from drconv.layers.guide import GuideConv2d
from drconv.layers.region_conv import RegionConv2d
from drconv.ops import layer_problem
from drconv.ops.watched import is_unwatched

__all__ = ["FusedCalls", "forget_fused", "fused_inference", "report_scores", "reported_calls"]

_enabled: ContextVar[bool] = ContextVar("drconv_fused_inference", default=os.environ.get("DRCONV_FUSED") != "0")


@contextmanager
def fused_inference(enabled: bool) -> Iterator[None]:
    """Let layers run in one call where they can, or never, within a `with` block of this thread.

    They do by default, unless the environment has `DRCONV_FUSED=0`. Results are the same up to rounding.

    Args:
        enabled: whether they may.

    Example:
        >>> with fused_inference(False):
        ...     stage_by_stage = model(images)
    """
    token = _enabled.set(enabled)
    try:
        yield
    finally:
        _enabled.reset(token)


class _Reports(NamedTuple):
    begun: Callable[[RegionLayer, Tensor, Tensor | None], None]
    scores: Mapping[nn.Module, Callable[[Tensor], None]]


_reports: ContextVar[_Reports | None] = ContextVar("drconv_reports", default=None)


@contextmanager
def reported_calls(
    begun: Callable[[RegionLayer, Tensor, Tensor | None], None],
    scores: Mapping[nn.Module, Callable[[Tensor], None]] | None = None,
) -> Iterator[None]:
    """Have calls of layers reported, within a `with` block of this thread; fused ones stay fused.

    Hooks would say the same, but a layer with a hook runs stage by stage.

    Args:
        begun: gets the layer, its batched input and the guided feature that it was given, as a call begins. A call
            whose guided feature must be resized is reported once more with the resized one.
        scores: what gets the guided feature at output resolution, by `DRConv2d`. These layers run their guide by
            itself, as in stages, and fuse the rest.
    """
    token = _reports.set(_Reports(begun, scores or {}))
    try:
        yield
    finally:
        _reports.reset(token)


def report_scores(layer: nn.Module, guided_feature: Tensor) -> bool:
    """Report a layer's scores at output resolution, if they are asked for; return whether they are."""
    reports = _reports.get()
    report = None if reports is None else reports.scores.get(layer)
    if report is not None:
        report(guided_feature)
    return report is not None


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# Hooks of all modules of the process; PyTorch fills and empties these very dictionaries.
_global_hooks = tuple(
    getattr(nn.modules.module, name)
    for name in (
        "_global_forward_hooks",
        "_global_forward_pre_hooks",
        "_global_backward_hooks",
        "_global_backward_pre_hooks",
    )
)
_PLAIN = (Tensor, nn.Parameter)
# What the stages ask the layer for, and a subclass may answer otherwise.
_SHARED = ("check_input", "output_size", "pad", "prefers_channels_last")
_MOST_CALLS = 256
_UNKNOWN: Final = object()


class FusedCalls:
    """The calls that a layer has been found to be able to make; nothing of it is copied or pickled with the layer.

    Here as in the call itself every object that is looked at comes from memory, because the other layers of a network
    have run since, and so does every instruction: hence the slots, the plain loops, and hooks that are looked for only
    after one was added.
    """

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: _Structure | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "FusedCalls":
        return FusedCalls()

    def __reduce__(self) -> tuple[type["FusedCalls"], tuple[()]]:
        return FusedCalls, ()

    def forget(self) -> None:
        """Free what is kept."""
        found, self._found = self._found, None
        if found is not None and found.parameters is not None:
            forget_packed(found.parameters.made_weight)

    def run(
        self, layer: RegionLayer, input: Tensor, guided_feature: Tensor | None, is_reported: bool = False
    ) -> Tensor | None:
        """Return the layer's output, or None where the call must be made stage by stage, or so far that it has scores.

        Not to be called from compiled code.

        Args:
            layer: that makes the call.
            input: of the layer.
            guided_feature: that was given, or made by now.
            is_reported: whether the call and its scores have been reported.
        """
        reports = None if is_reported else _reports.get()
        if reports is not None and input.dim() == 4:
            reports.begun(layer, input, guided_feature)
            if layer in reports.scores:
                return None
        if type(input) is not Tensor or input.is_neg() or not _enabled.get() or not is_unwatched():
            return None
        # Another thread may replace it at any time.
        found = self._found
        if found is None or not found.is_current(layer):
            found = self._found = _Structure(layer)
        if found.parameters is None or (found.handles != RemovableHandle.next_id and found.has_hooks()):
            return None
        conv, guide = found.conv, found.guide
        device = input.is_cpu or input.device
        key: tuple[Any, ...] = (
            input.shape, input.stride(), input.dtype, device, layer.backend, layer.activation,
            conv["stride"], conv["padding"], conv["dilation"], conv["groups"],
        )  # fmt: skip
        if guided_feature is not None:
            if type(guided_feature) is not Tensor or guided_feature.is_neg():
                return None
            given = guided_feature
            key = (*key, given.shape, given.stride(), given.dtype, given.device)
        elif guide is not None:
            key = (*key, guide["stride"], guide["padding"], guide["dilation"], guide["padding_mode"])
        else:
            return None
        if torch.is_grad_enabled() and found.needs_gradient(input, guided_feature):
            return None
        call: Inference | None = found.calls.get(key, _UNKNOWN)
        if call is _UNKNOWN:
            call = found.prepare(key, layer, input, guided_feature)
        output = None if call is None else call(input, guided_feature)
        if output is None and call is not None:
            # A parameter was given another shape, dtype or device without anybody being told.
            self._found = None
        return output


def forget_fused(layer: nn.Module) -> None:
    """Free what a layer keeps for its fused calls."""
    calls: FusedCalls | None = vars(layer).get("_fused_calls")
    if calls is not None:
        calls.forget()


class _Structure:
    """What a layer is made of, and what must not change for a fused call to be what its stages do.

    Holds no reference to the layer, which would keep it alive.

    Attributes:
        parameters: of the layer; None where it cannot run in one call, whatever the input.
        calls: by sizes and settings; None where one cannot be made in one call.
        handles: how many hooks PyTorch had ever registered when there were none here.
        conv, guide: attributes of the operator and of the guide, if there is one.
        generator: its name.
    """

    __slots__ = (
        "_held", "_hooks", "_inner", "_kind", "_own", "_size", "calls", "conv", "generator", "guide", "handles",
        "parameters",
    )  # fmt: skip

    def __init__(self, layer: RegionLayer) -> None:
        inner = [module for module in layer.modules() if module is not layer]
        self._kind = type(layer)
        self._size = len(vars(layer))
        self._own = layer._parameters
        self._inner = [(module, type(module), vars(module), len(vars(module))) for module in inner]
        holders: list[dict[str, Any]] = []
        for module in (layer, *inner):
            holders += [holder for holder in (module._modules, module._parameters) if holder]
        self._held = [(holder, name, held) for holder in holders for name, held in holder.items()]
        self._hooks = [vars(module)[name] for module in (layer, *inner) for name in _HOOKS]
        self.handles = -1
        self.conv = vars(layer.region_conv)
        self.guide = None if layer._modules.get("guide") is None else vars(layer._modules["guide"])
        self.generator = ""
        self.parameters = self._read(layer)
        self.calls: dict[tuple[Any, ...], Any] = {}

    def is_current(self, layer: RegionLayer) -> bool:
        """Return whether the layer still has the modules and parameters it had, and its modules their classes.

        A parametrization takes a parameter out of its module; an attribute that shadows a method makes that larger.
        """
        if layer._parameters is not self._own or type(layer) is not self._kind or len(vars(layer)) != self._size:
            return False
        for module, kind, attributes, size in self._inner:
            if type(module) is not kind or len(attributes) != size:
                return False
        try:
            for holder, name, held in self._held:
                if holder[name] is not held:
                    return False
        except KeyError:
            return False
        return True

    def has_hooks(self) -> bool:
        """Return whether anybody has hooked into the layer, its parts or all modules; to be asked after one was added.

        Every hook that PyTorch registers takes the next number of all handles.
        """
        handles = RemovableHandle.next_id
        if any(self._hooks) or any(_global_hooks):
            return True
        self.handles = handles
        return False

    def needs_gradient(self, input: Tensor, guided_feature: Tensor | None) -> bool:
        """Return whether a gradient would flow through the call."""
        return (
            input.requires_grad
            or (guided_feature is not None and guided_feature.requires_grad)
            or any(held.requires_grad for _, _, held in self._held if isinstance(held, Tensor))
        )

    def prepare(
        self, key: tuple[Any, ...], layer: RegionLayer, input: Tensor, guided_feature: Tensor | None
    ) -> Inference | None:
        """Return the call for inputs alike, or None."""
        call = None
        # What is wrong with a call is for the stages to say.
        with suppress(DrconvError):
            call = self._prepared(layer, input, guided_feature)
        if len(self.calls) >= _MOST_CALLS:
            self.calls.clear()
        self.calls[key] = call
        return call

    def _prepared(self, layer: RegionLayer, input: Tensor, guided_feature: Tensor | None) -> Inference | None:
        if input.dim() != 4 or input.shape[1] != layer.in_channels or self.parameters is None:
            return None
        # Nothing can be pooled, whatever the padding makes of the convolution's input.
        if input.numel() == 0 and input.shape[0] > 0:
            return None
        if guided_feature is not None and (guided_feature.dim() != 4 or guided_feature.dtype != input.dtype):
            return None
        parameters, conv = self.parameters, layer.region_conv
        guide: Any = layer._modules.get("guide")
        if guided_feature is None:
            if guide.padding_mode != "zeros":
                return None
            if isinstance(guide.padding, str):
                # One that is like its layer's own, which pads inside: `_read` has seen to that.
                padding = conv.padding if guide.kernel_size == layer.kernel_size else None
            else:
                padding = guide.padding
            if padding is None:
                return None
            geometry = (guide.stride, padding, guide.dilation)
        else:
            parameters = replace(parameters, guide_weight=None, guide_bias=None)
            geometry = ((1, 1), (0, 0), (1, 1))
        problem = layer_problem(
            input,
            guided_feature,
            parameters,
            (
                self.generator, layer.num_regions, layer.out_channels, layer.kernel_size, conv.stride, conv.padding,
                conv.dilation, conv.groups, *geometry, layer.activation, layer.backend,
            ),
        )  # fmt: skip
        # As `memory_format_of` says of an input that was made channels_last.
        if layer.prefers_channels_last() and input.shape[1] > 1 and input.shape[2] * input.shape[3] > 1:
            problem = replace(problem, conv=replace(problem.conv, memory_format=torch.channels_last))
        backend = choose_backend(problem.conv, layer.backend)
        if backend.why_not_infer(problem) is not None:
            return None
        return backend.prepare_inference(problem, parameters, input, guided_feature)

    def _read(self, layer: RegionLayer) -> LayerParameters | None:
        """Return the parameters if layer and parts are what this file knows, and do nothing but what it knows."""
        present = list(layer.parameters())
        generator, guide, conv = (layer._modules.get(name) for name in ("filter_generator", "guide", "region_conv"))
        known = {PooledFilterGenerator: _pooled, BasisFilterGenerator: _basis, LearnedFilters: _learned}
        margins_inside = layer._pads_inside or not any(sum(layer._margins, ()))
        if (
            type(conv) is not RegionConv2d
            or any(getattr(type(layer), name) is not getattr(RegionLayer, name) for name in _SHARED)
            or not margins_inside
            or not all(type(tensor) in _PLAIN for tensor in present)
            # Inference tensors count no versions: packing them anew for every call would cost more than it saves.
            or any(tensor.is_inference() for tensor in present)
            or any(
                "forward" in attributes
                for attributes in (vars(layer), *(attributes for _, _, attributes, _ in self._inner))
            )
            or len(layer._modules) != 2 + ("guide" in layer._modules)
        ):
            return None
        weights: tuple[Tensor | None, Tensor | None] = (None, None)
        if guide is not None:
            if type(guide) is not GuideConv2d or guide.groups != 1:
                return None
            # A norm counts what it sees in training; folded (`drconv.fold_guide_norm`), it is part of the weights.
            if not _has(guide, "weight", "bias") or guide._modules:
                return None
            weights = (guide.weight, guide.bias)
        read = known.get(type(generator))  # type: ignore[arg-type]
        made = None if read is None else read(layer, generator)
        if made is None or not _has(layer, "bias"):
            return None
        self.generator = next(name for name, kind in _NAMES.items() if type(generator) is kind)
        routing_weight, routing_bias, made_weight, made_bias = made
        bias = layer._parameters["bias"]
        return LayerParameters(*weights, routing_weight, routing_bias, made_weight, made_bias, bias)


_NAMES = {"pooled": PooledFilterGenerator, "basis": BasisFilterGenerator, "learned": LearnedFilters}
_Made = tuple[Tensor | None, Tensor | None, Tensor, Tensor | None]


def _has(module: nn.Module, *names: str) -> bool:
    return set(module._parameters) == set(names) and not module._buffers


def _pooled(layer: Any, generator: Any) -> _Made | None:
    """Return weight and bias of the routing, and of what is mixed."""
    kinds = {"pool": nn.AdaptiveAvgPool2d, "reduce": nn.Conv2d, "activation": nn.Sigmoid, "expand": nn.Conv2d}
    if not _consists_of(generator, kinds) or not _has(generator):
        return None
    reduce, expand, size = generator.reduce, generator.expand, generator.pool.output_size
    plain = all(
        _has(conv, "weight", "bias") and conv.kernel_size == (1, 1) and conv.stride == (1, 1) and conv.padding == (0, 0)
        for conv in (reduce, expand)
    )
    regions = layer.num_regions
    if not plain or size != layer.kernel_size or reduce.groups != 1 or expand.groups != regions:
        return None
    if expand.in_channels != regions * regions:
        return None
    return reduce.weight, reduce.bias, expand.weight, expand.bias


def _basis(layer: Any, generator: Any) -> _Made | None:
    if not _consists_of(generator, {"pool": nn.AdaptiveAvgPool2d, "routing": nn.Linear}):
        return None
    routing, bases = generator.routing, generator._parameters.get("bases")
    fits = bases is not None and bases.shape[0] == generator.num_experts and generator.pool.output_size == 1
    return (routing.weight, routing.bias, bases, None) if fits and _has(routing, "weight", "bias") else None


def _learned(layer: Any, generator: Any) -> _Made | None:
    filters = generator._parameters.get("filters")
    return None if filters is None or generator._modules else (None, None, filters, None)


def _consists_of(module: nn.Module, kinds: dict[str, type[nn.Module]]) -> bool:
    return {name: type(child) for name, child in module._modules.items()} == kinds
