"""The candidates of one layer: which computations there are, in which layouts, and what each has to do at least."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from drconv.analysis.profile.agreement import Agreement
from drconv.analysis.profile.layouts import arguments_in, layout_of, module_in, tensor_in
from drconv.analysis.profile.options import LAYOUTS, Pass, ProfileOptions
from drconv.analysis.profile.overhead import CONV2D
from drconv.analysis.profile.passes import Work, tracked, work_of
from drconv.analysis.profile.roofline import Traffic
from drconv.analysis.profile.targets import LayerCall
from drconv.layers import plain_twin, set_backend
from drconv.ops import region_conv2d

__all__ = ["Attempt", "layer_attempts", "operator_attempts", "operator_calls"]

_CONV_PASSES = {"forward": 1, "backward": 2, "step": 3}
"""Passes of a convolution's multiply-adds: its gradients of input and weights cost as much as its output each."""


@dataclass(frozen=True, eq=False)
class Attempt:
    """One way to compute a target.

    Attributes:
        candidate: backend name, or `conv2d`.
        layout: of the input.
        work: to be timed; None if that was refused.
        traffic: what it has to do; None if it is not known.
        agreement: with the reference.
        equal_regions: for a network, as in `CandidateProfile`.
    """

    candidate: str
    layout: str
    work: Work | None
    traffic: Traffic | None = None
    agreement: Agreement = field(default_factory=Agreement)
    equal_regions: float | None = None


def layer_attempts(
    call: LayerCall, agreements: Mapping[str, Agreement], madds: int | None, options: ProfileOptions
) -> list[Attempt]:
    """Return `conv2d` in both layouts, then every backend on the whole layer.

    Args:
        call: of the layer.
        agreements: backend -> how far it is from the reference.
        madds: multiply-adds of the pass, if they are known.
        options: backends, layouts, pass.
    """
    own, which, layer = layout_of(call.args[0]), options.which, call.layer
    attempts = _convolutions(call, plain_twin(layer), call.args, which)
    given = sum(_bytes(arg) for arg in call.args)
    parameters = sum(_bytes(p) for p in layer.parameters())
    traffic = None if madds is None else Traffic(madds, _moved(given, _output_bytes(call), parameters, which))
    for layout in options.layouts(own):
        module = layer if layout == own else module_in(layer, layout)
        args = arguments_in(call.args, layout)
        for name in options.names:
            agreed = agreements[name]
            select = partial(set_backend, module, name)
            work = work_of(module, args, which, select) if agreed.refusal is None else None
            attempts.append(Attempt(name, layout, work, traffic, agreed))
    return attempts


def operator_attempts(
    call: LayerCall, agreements: Mapping[str, Agreement], options: ProfileOptions, *, guide_gradient: bool = True
) -> list[Attempt]:
    """Return `conv2d` in both layouts, then every backend on the operator alone, its filters and scores given.

    Args:
        call: whose operands are used; filters keep their strides.
        agreements: backend -> how far it is from the reference.
        options: backends, layouts, pass.
        guide_gradient: whether a backward pass makes the gradient of the scores, too.
    """
    input, filters, guided, _ = call.operands
    which, problem = options.which, call.problem
    attempts = _convolutions(call, plain_twin(call.layer), (input,), which)
    passes = {"forward": 1, "backward": 2 + problem.num_regions * guide_gradient}
    madds = problem.madds * passes.get(which, sum(passes.values()))
    given = _bytes(input) + _bytes(guided)
    traffic = Traffic(madds, _moved(given, _output_bytes(call), _bytes(filters), which))
    for layout in options.layouts(layout_of(input)):
        works = operator_calls(call, layout, options.names, which, guide_gradient=guide_gradient)
        for name, work in works.items():
            agreed = agreements[name]
            attempts.append(Attempt(name, layout, work if agreed.refusal is None else None, traffic, agreed))
    return attempts


def operator_calls(
    call: LayerCall, layout: str, backends: list[str], which: Pass, *, guide_gradient: bool = True
) -> dict[str, Work]:
    """Return backend -> one call of `region_conv2d` with a call's operands."""
    input, filters, guided, bias = call.operands
    conv = call.layer.region_conv
    x, w = tracked((tensor_in(input, layout), filters), which)
    scores = tensor_in(guided, layout)
    if guide_gradient:
        (scores,) = tracked((scores,), which)
    (added,) = tracked((None if bias is None else bias.detach(),), which)
    leaves = [t for t in (x, w, scores, added) if t is not None and t.requires_grad]

    def work(name: str) -> Work:
        run = partial(
            region_conv2d, x, w, scores, added,
            stride=conv.stride, padding=conv.padding, dilation=conv.dilation, groups=conv.groups, backend=name,
        )  # fmt: skip
        return Work(run, leaves)

    return {name: work(name) for name in backends}


def _convolutions(call: LayerCall, twin: nn.Module, args: tuple[Any, ...], which: Pass) -> list[Attempt]:
    """Return `nn.Conv2d` of the layer's geometry, in both layouts."""
    weights = sum(_bytes(p) for p in twin.parameters())
    moved = _moved(_bytes(call.operands[0]), _output_bytes(call), weights, which)
    traffic = Traffic(call.problem.madds * _CONV_PASSES[which], moved)
    return [
        Attempt(CONV2D, layout, work_of(module_in(twin, layout), arguments_in(args, layout)[:1], which), traffic)
        for layout in LAYOUTS
    ]


def _bytes(value: Any) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0


def _output_bytes(call: LayerCall) -> int:
    p = call.problem
    return int(p.batch * p.out_channels * p.positions * torch.empty((), dtype=p.dtype).element_size())


def _moved(given: int, made: int, parameters: int, which: Pass) -> int:
    """Return the bytes that a pass moves: all that it reads and writes, once."""
    forward = given + made + parameters
    backward = made + 2 * given + 2 * parameters
    return {"forward": forward, "backward": backward}.get(which, forward + backward)
