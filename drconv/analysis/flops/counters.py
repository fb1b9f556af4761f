"""Closed forms: multiply-adds of a layer from its shapes alone, for ours, PyTorch's, and whatever a user registers."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, TypeVar

from torch import nn

from drconv.errors import ArgumentError
from drconv.layers import (
    BasisFilterGenerator,
    DRConv2d,
    DynamicConv2d,
    FilterGenerator,
    LearnedFilters,
    PooledFilterGenerator,
)

__all__ = [
    "CLOSED_FORMS",
    "REGISTERED",
    "Counter",
    "Shape",
    "closed_form",
    "register_counter",
    "registered_counter",
]

Shape = tuple[int, ...]
Counted = int | Mapping[str, int]
Counter = Callable[[Any, Shape, Shape], Counted | None]
"""(module, shape of its first tensor argument, shape of its output) -> multiply-adds of the batch, or those by stage;
None where the formula does not know the module."""

T = TypeVar("T", bound=Counter)

REGISTERED: dict[type[nn.Module], Counter] = {}
"""Layers that are not ours, and the formulas that users gave for them."""


def register_counter(layer: type[nn.Module], counter: T | None = None) -> Any:
    """Say what a layer of yours costs; usable as a decorator.

    `count_flops` then takes the formula as the theory of every such layer, with all that is inside it, and shows beside
    it what the layer executes. Use it where operators tell the wrong story: a layer that computes every candidate
    and picks one, or a custom operator without a formula.

    Args:
        layer: the class; subclasses are meant, too.
        counter: (module, shape of its first tensor argument, shape of its output) -> multiply-adds for the whole
            batch, as an integer or as a mapping from stages to integers. Stages called generator, attention or mixing
            are taken to make filters, and one called convolution to use them.

    Returns:
        The counter, or a decorator for it.

    Raises:
        ArgumentError: `layer` is no module class, or has a counter already.

    Example:
        >>> @register_counter(CondConv2d)
        ... def condconv(layer, input, output):
        ...     batch, channels = input[:2]
        ...     return {"routing": batch * channels * layer.num_experts, "convolution": ...}
    """
    if not (isinstance(layer, type) and issubclass(layer, nn.Module)):
        raise ArgumentError(f"layer must be a subclass of nn.Module, got {layer!r}")

    def add(function: T) -> T:
        if layer in REGISTERED:
            raise ArgumentError(f"{layer.__name__} has a counter already; a class can have one")
        REGISTERED[layer] = function
        return function

    return add if counter is None else add(counter)


def registered_counter(module: nn.Module) -> Counter | None:
    """Return the formula that was registered for a module's class or the nearest of its bases."""
    return next((REGISTERED[base] for base in type(module).__mro__ if base in REGISTERED), None)


def closed_form(module: nn.Module) -> Counter | None:
    """Return the formula of a module's class or of the nearest of its bases, registered or built in; None if none."""
    known = {**CLOSED_FORMS, **REGISTERED}
    return next((known[base] for base in type(module).__mro__ if base in known), None)


def _conv(module: Any, input: Shape, output: Shape) -> int:
    madds: int = prod(output) * module.in_channels // module.groups * prod(module.kernel_size)
    return madds


def _transposed_conv(module: Any, input: Shape, output: Shape) -> int:
    madds: int = prod(input) * module.out_channels // module.groups * prod(module.kernel_size)
    return madds


def _linear(module: Any, input: Shape, output: Shape) -> int:
    return prod(output) * int(module.in_features)


def _positions(output: Shape) -> tuple[int, int]:
    """Return batch and output positions, also of an unbatched output."""
    return (1 if len(output) == 3 else output[0]), output[-2] * output[-1]


def _drconv2d(module: DRConv2d, input: Shape, output: Shape) -> dict[str, int] | None:
    batch, positions = _positions(output)
    taps = prod(module.kernel_size)
    generator = _generator(module.filter_generator)
    if generator is None:
        return None
    own_guide = module.guide is not None
    return {
        "pool": 0,
        "generator": batch * generator,
        "guide": batch * positions * module.in_channels * module.num_regions * taps * own_guide,
        "convolution": batch * positions * module.out_channels * module.in_channels // module.groups * taps,
    }


def _generator(generator: FilterGenerator) -> int | None:
    """Return the multiply-adds of a generator for one image; None for one that is not ours."""
    spec = generator.spec
    filter_size, regions = prod(spec.filter_shape), spec.num_regions
    if isinstance(generator, PooledFilterGenerator):
        hidden = regions * regions
        # The second product has M groups, each from M hidden units to one filter.
        return prod(spec.kernel_size) * spec.in_channels * hidden + regions * regions * filter_size
    if isinstance(generator, BasisFilterGenerator):
        coefficients = regions * generator.num_experts
        return spec.in_channels * coefficients + coefficients * filter_size
    return 0 if isinstance(generator, LearnedFilters) else None


def _dynamic_conv2d(module: DynamicConv2d, input: Shape, output: Shape) -> dict[str, int]:
    batch, positions = _positions(output)
    hidden = module.attention.reduce.out_features
    filter_size = module.out_channels * module.in_channels // module.groups * prod(module.kernel_size)
    bias_size = module.out_channels * module.has_bias
    return {
        "pool": 0,
        "attention": batch * hidden * (module.in_channels + module.num_experts),
        "mixing": batch * module.num_experts * (filter_size + bias_size),
        "convolution": batch * positions * filter_size,
    }


CLOSED_FORMS: dict[type[nn.Module], Counter] = {
    nn.Conv1d: _conv,
    nn.Conv2d: _conv,
    nn.Conv3d: _conv,
    nn.ConvTranspose1d: _transposed_conv,
    nn.ConvTranspose2d: _transposed_conv,
    nn.ConvTranspose3d: _transposed_conv,
    nn.Linear: _linear,
    DRConv2d: _drconv2d,
    DynamicConv2d: _dynamic_conv2d,
}
"""Classes and their formulas (DRConv: the paper's sizes, docs/math.md; DyConv: its section on cost)."""
