"""Count as the counter beside the released DRConv code does, so that its figures can be recognised.

Rules read in megvii-research/DRConv, `opCounter`: a convolution counts its multiply-adds, a linear layer (2 n - 1)
operations per output, a max pool k and an average pool k + 1 per output (k the side of the window), everything else
nothing. The hook for the dynamic layer is missing there; as in its siblings, every generated weight counts one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from torch import nn

from drconv.analysis.flops.count import count_flops
from drconv.analysis.flops.counters import Shape, closed_form
from drconv.analysis.flops.observe import Call, observe
from drconv.analysis.flops.report import FlopReport, LayerFlops
from drconv.layers import (
    BasisFilterGenerator,
    DRConv2d,
    DynamicConv2d,
    DynamicLayer,
    GuideConv2d,
    LearnedFilters,
    PooledFilterGenerator,
)

__all__ = ["RELEASED", "count_released"]

RELEASED = (
    "operations per image as counted by the rules of the released DRConv code (megvii-research/DRConv, opCounter; "
    "its missing hook for the dynamic layer inferred: one per generated weight); these are neither MAdds nor FLOPs"
)


def count_released(model: nn.Module, input_size: tuple[int, ...] = (3, 224, 224), **kwargs: Any) -> FlopReport:
    """Count a model by the released code's rules; what is executed stays in multiply-adds.

    Args:
        model: any module that takes one tensor `[B, *input_size]`.
        input_size: of one image, (C, H, W).
        **kwargs: of `count_flops`.

    Returns:
        The report of `count_flops`, with other numbers for the theory.

    Raises:
        ArgumentError: as `count_flops`.
        ModelError: the model fails on such an input.
    """
    report = count_flops(model, input_size, **kwargs)
    seen = observe(model, input_size)
    modules = dict(model.named_modules())
    found = {layer.name: layer for layer in report.layers}
    inside = {x for m in modules.values() if isinstance(m, DynamicLayer) for x in m.modules() if x is not m}
    layers = []
    for name, module in modules.items():
        if module not in inside and (name in found or type(module) in _RULES):
            known = found.get(name, LayerFlops(name, type(module).__name__, 0, 0, 0))
            counted = _recount(known, module, seen.calls.get(name, ()))
            ran = f"{name}.guide".lstrip(".") in seen.calls
            layers.append(_without_guide(counted) if isinstance(module, DRConv2d) and not ran else counted)
    return replace(report, layers=tuple(layers), convention=RELEASED)


def _recount(layer: LayerFlops, module: nn.Module, calls: Sequence[Call]) -> LayerFlops:
    rule = _RULES.get(type(module))
    counts = [rule(module, call.inputs[0], call.output) for call in calls if call.output is not None] if rule else []
    stages = {stage: sum(count[stage] for count in counts) for stage in (counts[0] if counts else {})}
    shown = tuple(replace(s, madds=stages.get(s.stage, 0)) for s in layer.stages)
    return replace(layer, madds=sum(stages.values()), stages=shown)


def _without_guide(layer: LayerFlops) -> LayerFlops:
    """Return a layer that was handed a guided feature, so that its own guide, if it has one, did not run."""
    unused = sum(s.madds for s in layer.stages if s.stage == "guide")
    stages = tuple(replace(s, madds=0) if s.stage == "guide" else s for s in layer.stages)
    return replace(layer, madds=layer.madds - unused, stages=stages)


Counts = dict[str, int]


def _madds(module: nn.Module, input: Shape, output: Shape) -> Counts:
    formula = closed_form(module)
    found = None if formula is None else formula(module, input, output)
    return {"": found} if isinstance(found, int) else {}


def _linear(module: Any, input: Shape, output: Shape) -> Counts:
    return {"": (2 * module.in_features - 1) * prod(output)}


def _max_pool(module: Any, input: Shape, output: Shape) -> Counts:
    return {"": _window(module.kernel_size) * prod(output)}


def _average_pool(module: Any, input: Shape, output: Shape) -> Counts:
    return {"": (_window(module.kernel_size) + 1) * prod(output)}


def _window(kernel_size: int | Sequence[int]) -> int:
    """Return k for a square window given as one number, and the number of its elements otherwise, as that code does."""
    return kernel_size if isinstance(kernel_size, int) else prod(kernel_size)


def _global_pool(module: nn.AdaptiveAvgPool2d, input: Shape, output: Shape) -> Counts:
    # The released networks have AvgPool2d(7) here.
    return {"": (input[-2] // output[-2] + 1) * prod(output)}


def _drconv2d(module: DRConv2d, input: Shape, output: Shape) -> Counts:
    guide = 0 if module.guide is None else prod(output[-2:]) * module.num_regions * module.guide.weight[0].numel()
    generator, spec = module.filter_generator, module.filter_generator.spec
    weights = 0 if isinstance(generator, LearnedFilters) else spec.num_regions * prod(spec.filter_shape)
    if isinstance(generator, BasisFilterGenerator):
        weights += (2 * spec.in_channels - 1) * generator.routing.out_features
    elif isinstance(generator, PooledFilterGenerator):
        weights += prod(spec.kernel_size) * generator.reduce.weight.numel()
    return {"generator": weights, "guide": guide, "convolution": prod(output[-2:]) * prod(spec.filter_shape)}


def _dynamic_conv2d(module: DynamicConv2d, input: Shape, output: Shape) -> Counts:
    layers = (module.attention.reduce, module.attention.expand)
    attention = sum((2 * x.in_features - 1) * x.out_features for x in layers)
    filter_size = prod(module.experts.filter_shape)
    return {"attention": attention, "mixing": filter_size, "convolution": prod(output[-2:]) * filter_size}


_RULES: dict[type[nn.Module], Callable[[Any, Shape, Shape], Counts]] = {
    nn.Conv1d: _madds,
    nn.Conv2d: _madds,
    nn.Conv3d: _madds,
    GuideConv2d: _madds,
    nn.Linear: _linear,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _global_pool,
    DRConv2d: _drconv2d,
    DynamicConv2d: _dynamic_conv2d,
}
