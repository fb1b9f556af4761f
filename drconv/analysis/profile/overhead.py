"""What a call costs that has nothing to compute: the same kind of layer with a few channels on one position."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import nn

from drconv.analysis.profile.options import Pass
from drconv.analysis.profile.passes import Work, gradient_mode, work_of
from drconv.analysis.timing import StopRule, time_interleaved
from drconv.kernels import BACKENDS, RegionConvProblem
from drconv.layers import FILTER_GENERATORS, DRConv2d, DynamicConv2d, DynamicLayer, set_backend
from drconv.layers.plain_twin import plain_twin

__all__ = ["CONV2D", "layer_overheads", "time_calls", "tiny_layer"]

CONV2D = "conv2d"
"""Name of the candidate that has `nn.Conv2d` in place of every dynamic layer."""

_CHANNELS = 4
_STOP = StopRule(rounds=30, warmup=5)


def tiny_layer(layer: DynamicLayer) -> tuple[DynamicLayer, tuple[int, int]] | None:
    """Return a layer of the same kind with 4 channels, and the size of an input that gives one position.

    None for layers of others, whose arguments are not known.
    """
    groups = _CHANNELS if layer.groups > 1 else 1
    like = nn.Conv2d(_CHANNELS, _CHANNELS, layer.kernel_size, layer.stride, 0, layer.dilation, groups, layer.has_bias)
    parameter = next(layer.parameters())
    like = like.to(parameter.device, parameter.dtype)
    size = (
        layer.dilation[0] * (layer.kernel_size[0] - 1) + 1,
        layer.dilation[1] * (layer.kernel_size[1] - 1) + 1,
    )
    if type(layer) is DynamicConv2d:
        return DynamicConv2d.like(like, num_experts=layer.num_experts), size
    if type(layer) is DRConv2d:
        kinds = {kind: name for name, kind in FILTER_GENERATORS.items()}
        name = kinds.get(type(layer.filter_generator))
        if name is not None:
            return DRConv2d.like(like, num_regions=layer.num_regions, filter_generator=name), size
    return None


def layer_overheads(
    layer: DynamicLayer, backends: Sequence[str], which: Pass, device: torch.device
) -> dict[str, float]:
    """Return candidate -> seconds of the tiny layer's call, for `conv2d` and the backends that can run it."""
    tiny = tiny_layer(layer)
    if tiny is None:
        return {}
    small, size = tiny
    input = torch.randn(1, _CHANNELS, *size, device=device, dtype=next(layer.parameters()).dtype)
    problem = RegionConvProblem.of(
        input, input.new_zeros(1, small_regions(small), _CHANNELS, _CHANNELS // small.groups, *small.kernel_size),
        (1, 1), small.stride, (0, 0), small.dilation, small.groups,
    )  # fmt: skip
    able = [name for name in backends if BACKENDS[name].why_not(problem) is None]
    works = {CONV2D: work_of(plain_twin(small), (input,), which)}
    works |= {name: work_of(small, (input,), which, partial(set_backend, small, name)) for name in able}
    return time_calls(works, which, device)


def small_regions(layer: DynamicLayer) -> int:
    """Return M of a layer, 1 if it has no regions."""
    return int(getattr(layer, "num_regions", 1))


def time_calls(works: Mapping[str, Work], which: Pass, device: torch.device) -> dict[str, float]:
    """Return the median seconds of some calls."""
    with gradient_mode(which):
        timings = time_interleaved({name: work.candidate(which) for name, work in works.items()}, _STOP, device)
    return {name: timing.median for name, timing in timings.items()}
