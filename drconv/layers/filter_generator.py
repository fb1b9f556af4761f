"""The three sources of region filters: the paper's generator, the released code's, and plain learned filters."""

from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import torch
from torch import Tensor, nn

from drconv.layers.spread import spread
from drconv.registry import Registry

__all__ = [
    "FILTER_GENERATORS",
    "BasisFilterGenerator",
    "FilterGenerator",
    "FilterSpec",
    "LearnedFilters",
    "PooledFilterGenerator",
]


@dataclass(frozen=True)
class FilterSpec:
    """What a generator has to make.

    Attributes:
        in_channels: C.
        out_channels: O.
        kernel_size: (K, K), rows first.
        groups: channel groups of the convolution that uses the filters.
        num_regions: M.
    """

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, int]
    groups: int
    num_regions: int

    @property
    def filter_shape(self) -> tuple[int, int, int, int]:
        """Shape of one region's filter, (O, C/groups, K, K)."""
        return self.out_channels, self.in_channels // self.groups, *self.kernel_size

    @property
    def fan_in(self) -> int:
        """Inputs of one output element, C/groups * K * K."""
        return prod(self.filter_shape[1:])


class FilterGenerator(nn.Module):
    """Base: from an input `[B, C, H, W]` to filters `[B, M, O, C/groups, K, K]`, or `[M, ...]` shared by the batch.

    Args:
        spec: what to make.
    """

    def __init__(self, spec: FilterSpec) -> None:
        super().__init__()
        self.spec = spec

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        raise TypeError(f"{type(self).__name__} draws no parameters; use one of {', '.join(FILTER_GENERATORS)}")

    def start_from(self, weight: Tensor) -> str | None:
        """Set the parameters so that every region's filter starts as a given one, and can still learn.

        Args:
            weight: `[O, C/groups, K, K]`.

        Returns:
            None if all filters are now the given one, else why they are not.
        """
        return f"{type(self).__name__} has no way to start from a convolution's weights"

    def static_filters(self) -> Tensor | None:
        """Return the filters `[M, O, C/groups, K, K]` if they are the same for every input, else None."""
        return None

    def scale_outputs(self, scale: Tensor) -> str | None:
        """Change the parameters so that every filter's output channel o becomes scale[o] times what it was.

        Args:
            scale: `[O]`.

        Returns:
            None if it is done, else why it cannot be; then nothing has changed.
        """
        return f"{type(self).__name__} has no way to scale its filters"

    def extra_repr(self) -> str:
        """Show the shape of what is made."""
        return f"num_regions={self.spec.num_regions}, filter_shape={self.spec.filter_shape}"


class PooledFilterGenerator(FilterGenerator):
    """The paper's generator, as others describe it.

    Adaptive average pool to K x K, 1x1 conv to M*M, sigmoid, 1x1 conv with M groups. Initialised so that, for inputs of
    about zero mean, the filters have He variance 2 / (C/groups * K * K): a filter is a sum of M terms a_i * s_i with
    s_i near 1/2 at the start, so Var(a) = 4/M of it (docs/math.md).
    """

    def __init__(self, spec: FilterSpec, device: Any = None, dtype: Any = None) -> None:
        super().__init__(spec)
        hidden = spec.num_regions * spec.num_regions
        made = spec.num_regions * spec.out_channels * (spec.in_channels // spec.groups)
        self.pool = nn.AdaptiveAvgPool2d(spec.kernel_size)
        self.reduce = nn.Conv2d(spec.in_channels, hidden, 1, device=device, dtype=dtype)
        self.activation = nn.Sigmoid()
        self.expand = nn.Conv2d(hidden, made, 1, groups=spec.num_regions, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw small routing weights and He-sized filters."""
        # With Var(reduce) = 0.1 / C the sigmoid stays near 1/2 even for unpooled unit-variance input.
        nn.init.normal_(self.reduce.weight, std=sqrt(0.1 / self.reduce.in_channels))
        nn.init.normal_(self.expand.weight, std=sqrt(4 / self.spec.num_regions * 2 / self.spec.fan_in))
        for bias in (self.reduce.bias, self.expand.bias):
            if bias is not None:
                nn.init.zeros_(bias)

    @torch.no_grad()
    def start_from(self, weight: Tensor) -> str | None:
        """Start with `expand` as a constant: zero weight, and the given filter as bias.

        The bias has one value for all taps of a K x K filter, so that only a 1x1 filter is kept. Others start as their
        mean over the taps.
        """
        nn.init.zeros_(self.expand.weight)
        if self.expand.bias is not None:
            self.expand.bias.copy_(weight.mean((2, 3)).flatten().repeat(self.spec.num_regions))
        if self.spec.kernel_size == (1, 1):
            return None
        return "the pooled form starts with one value for all taps of a filter, here their mean"

    @torch.no_grad()
    def static_filters(self) -> Tensor | None:
        """Return the filters if `reduce` or `expand` has zero weight, so that they do not depend on the input."""
        if bool(self.reduce.weight.any()) and bool(self.expand.weight.any()):
            return None
        filters: Tensor = self(self.expand.weight.new_zeros(1, self.spec.in_channels, *self.spec.kernel_size))
        return filters[0]

    @torch.no_grad()
    def scale_outputs(self, scale: Tensor) -> str | None:
        """Scale the rows of `expand`, which makes the filters without anything after it."""
        rows = scale.repeat_interleave(self.spec.in_channels // self.spec.groups).repeat(self.spec.num_regions)
        self.expand.weight.mul_(rows.view(-1, 1, 1, 1))
        if self.expand.bias is not None:
            self.expand.bias.mul_(rows)
        return None

    def forward(self, input: Tensor) -> Tensor:
        """Make `[B, M, O, C/groups, K, K]`."""
        filters: Tensor = self.expand(self.activation(self.reduce(self.pool(input))))  # [B, M*O*C/groups, K, K]
        return filters.reshape(-1, self.spec.num_regions, *self.spec.filter_shape)


class BasisFilterGenerator(FilterGenerator):
    """The released code's generator: per region, a sigmoid mix of `num_experts` bases that all regions share.

    Global average pool, linear to M * num_experts, 2 * sigmoid(.) / num_experts. Its initialisation is kept: bases
    uniform in +-sqrt(6 / (C*K*K)), routing N(0, 0.01^2) with zero bias, so that at the start all M filters are nearly
    equal (megvii-research/DRConv).
    """

    num_experts = 8

    def __init__(self, spec: FilterSpec, device: Any = None, dtype: Any = None) -> None:
        super().__init__(spec)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.routing = nn.Linear(spec.in_channels, spec.num_regions * self.num_experts, device=device, dtype=dtype)
        # Three axes: `.to(memory_format=torch.channels_last)` would reject a parameter with five.
        shape = (self.num_experts, spec.out_channels, spec.fan_in)
        self.bases = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw bases and routing as the released code does."""
        bound = sqrt(6 / (self.spec.in_channels * prod(self.spec.kernel_size)))
        nn.init.uniform_(self.bases, -bound, bound)
        nn.init.normal_(self.routing.weight, std=0.01)
        nn.init.zeros_(self.routing.bias)

    @torch.no_grad()
    def start_from(self, weight: Tensor) -> str | None:
        """Start with an even mix of bases that are the given filter plus noise whose sum is zero.

        Equal bases would stay equal: it is by their differences that the routing learns.
        """
        nn.init.zeros_(self.routing.weight)
        nn.init.zeros_(self.routing.bias)
        self.bases.copy_(spread(weight.flatten(1), self.num_experts))
        return None

    @torch.no_grad()
    def static_filters(self) -> Tensor | None:
        """Return the filters if the routing has zero weight, so that they do not depend on the input."""
        if bool(self.routing.weight.any()):
            return None
        filters: Tensor = self(self.bases.new_zeros(1, self.spec.in_channels, 1, 1))[0]
        mix = self.routing.bias.view(self.spec.num_regions, -1)
        # Equal mixes give equal filters, which the rows of a matrix product need not be to the last bit.
        return filters[:1].expand_as(filters) if bool((mix == mix[:1]).all()) else filters

    @torch.no_grad()
    def scale_outputs(self, scale: Tensor) -> str | None:
        """Scale the bases, of which the filters are sums."""
        self.bases.mul_(scale.view(1, -1, 1))
        return None

    def forward(self, input: Tensor) -> Tensor:
        """Make `[B, M, O, C/groups, K, K]`."""
        mix = self.routing(self.pool(input).flatten(1)).unflatten(1, (self.spec.num_regions, self.num_experts))
        mix = 2 * mix.sigmoid() / self.num_experts  # [B, M, num_experts]
        filters: Tensor = mix.flatten(0, 1) @ self.bases.flatten(1)
        return filters.reshape(-1, self.spec.num_regions, *self.spec.filter_shape)


class LearnedFilters(FilterGenerator):
    """M static filters, the same for every input; He-normal at the start."""

    def __init__(self, spec: FilterSpec, device: Any = None, dtype: Any = None) -> None:
        super().__init__(spec)
        shape = (spec.num_regions, spec.out_channels, spec.fan_in)
        self.filters = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every filter with variance 2 / (C/groups * K * K)."""
        nn.init.normal_(self.filters, std=sqrt(2 / self.spec.fan_in))

    @torch.no_grad()
    def start_from(self, weight: Tensor) -> str | None:
        """Start with the given filter in every region."""
        self.filters.copy_(weight.flatten(1))
        return None

    def static_filters(self) -> Tensor | None:
        """Return the filters."""
        return self.filters.detach().view(self.spec.num_regions, *self.spec.filter_shape)

    @torch.no_grad()
    def scale_outputs(self, scale: Tensor) -> str | None:
        """Scale the filters."""
        self.filters.mul_(scale.view(1, -1, 1))
        return None

    def forward(self, input: Tensor) -> Tensor:
        """Return `[M, O, C/groups, K, K]`, whatever the input."""
        return self.filters.view(self.spec.num_regions, *self.spec.filter_shape)


FILTER_GENERATORS: Registry[type[FilterGenerator]] = Registry("filter generator")
FILTER_GENERATORS.add("pooled", PooledFilterGenerator)
FILTER_GENERATORS.add("basis", BasisFilterGenerator)
FILTER_GENERATORS.add("learned", LearnedFilters)
