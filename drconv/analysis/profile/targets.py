"""What a network's dynamic layers are called with, and which of these calls are the same problem."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from drconv.analysis.running import model_errors
from drconv.errors import ModelError
from drconv.kernels import RegionConvProblem
from drconv.layers import DynamicLayer

__all__ = ["LayerCall", "group_calls", "record_calls"]


@dataclass(frozen=True, eq=False)
class LayerCall:
    """A call of a dynamic layer, with the inputs of the layer and those of its operator.

    Attributes:
        name: of the layer; a second call of the same layer is `name#2`.
        layer: that was called.
        args: of the layer.
        operands: of its operator: input, region filters, guided feature, bias.
    """

    name: str
    layer: DynamicLayer
    args: tuple[Any, ...]
    operands: tuple[Any, ...]

    @property
    def problem(self) -> RegionConvProblem:
        """Sizes of the operator's call."""
        input, filters, guided, _ = self.operands
        conv = self.layer.region_conv
        size = (guided.shape[2], guided.shape[3])
        return RegionConvProblem.of(input, filters, size, conv.stride, conv.padding, conv.dilation, conv.groups)

    @property
    def shape(self) -> str:
        """Sizes in a few characters, such as "24->48 3x3/2 @ 28x28"."""
        return shape_of(self.problem)


def shape_of(problem: RegionConvProblem) -> str:
    """Return sizes in a few characters: channels, a kernel and stride above 1, and the output's map."""
    p = problem
    kind = "" if p.groups == 1 else "depthwise " if p.groups == p.in_channels else f"groups={p.groups} "
    side = f" {p.kernel_size[0]}x{p.kernel_size[1]}" if max(p.kernel_size) > 1 else ""
    stride = f"/{p.stride[0]}" if max(p.stride) > 1 else ""
    return f"{kind}{p.in_channels}->{p.out_channels}{side}{stride} @ {p.output_size[0]}x{p.output_size[1]}"


def record_calls(model: nn.Module, input: Tensor) -> list[LayerCall]:
    """Run a model once and keep what every dynamic layer was called with.

    Raises:
        ModelError: the model has no dynamic layer, or fails on the input.
    """
    calls: list[LayerCall] = []
    layers = {name or type(m).__name__: m for name, m in model.named_modules() if isinstance(m, DynamicLayer)}
    if not layers:
        raise ModelError(
            f"{type(model).__name__} has no dynamic layer (DRConv2d, DynamicConv2d), so there is nothing to profile; "
            "drconv.convert, or --convert, puts some in"
        )
    with torch.no_grad(), _recording(layers, calls), model_errors(model, input.shape):
        model(input)
    return calls


@contextmanager
def _recording(layers: dict[str, DynamicLayer], calls: list[LayerCall]) -> Iterator[None]:
    arguments: dict[nn.Module, tuple[Any, ...]] = {}

    # Cloned, because what comes after may write in place.
    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        arguments[module] = _clone(signature(module.forward).bind(*args, **kwargs).args)

    with ExitStack() as stack:
        for name, layer in layers.items():

            def inside(module: nn.Module, args: tuple[Any, ...], name: str = name, layer: DynamicLayer = layer) -> None:
                times = sum(call.layer is layer for call in calls)
                called = name if not times else f"{name}#{times + 1}"
                calls.append(LayerCall(called, layer, arguments[layer], _clone(args[:4])))

            stack.callback(layer.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(layer.region_conv.register_forward_pre_hook(inside).remove)
        yield


def _clone(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(arg.detach().clone() if isinstance(arg, Tensor) else arg for arg in args)


def group_calls(calls: Sequence[LayerCall], every_layer: bool) -> list[list[LayerCall]]:
    """Return groups of calls that are the same work: equal layers on inputs of equal sizes and layouts.

    Args:
        calls: in the order they ran; groups are in the order of their first one.
        every_layer: whether each call is a group of its own.
    """
    groups: dict[object, list[LayerCall]] = {}
    for index, call in enumerate(calls):
        key = index if every_layer else (str(call.layer), *map(_sizes, (*call.args, *call.operands)))
        groups.setdefault(key, []).append(call)
    return list(groups.values())


def _sizes(argument: object) -> object:
    return (argument.shape, argument.stride(), argument.dtype) if isinstance(argument, Tensor) else argument
