"""The three sources of filters, each against its formula and its initialisation."""

import math

import pytest
import torch
import torch.nn.functional as F

from drconv.layers import (
    BasisFilterGenerator,
    DRConv2d,
    FilterGenerator,
    FilterSpec,
    LearnedFilters,
    PooledFilterGenerator,
)
from tests.tolerances import assert_near


def test_pooled_is_the_papers_text() -> None:
    c, o, k, groups, m = 6, 4, 3, 2, 5
    made = PooledFilterGenerator(FilterSpec(c, o, (k, k), groups, m))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, c, 10, 8)
    pooled = F.adaptive_avg_pool2d(x, k)
    hidden = torch.sigmoid(F.conv2d(pooled, made.reduce.weight, made.reduce.bias))  # [B, M*M, K, K]
    filters = torch.empty(2, m, o, c // groups, k, k)
    weight = made.expand.weight.view(m, o, c // groups, m)
    bias = made.expand.bias.view(m, o, c // groups)
    for j in range(m):
        own = hidden[:, j * m : (j + 1) * m]  # region j sees its own m hidden channels
        filters[:, j] = torch.einsum("ocm,bmyx->bocyx", weight[j], own) + bias[j][..., None, None]
    assert_near(made(x), filters, "filters")
    assert sum(p.numel() for p in made.parameters()) == c * m * m + m * m + (m * m + m) * o * c // groups


def test_basis_is_the_released_code() -> None:
    c, o, k, groups, m = 6, 4, 3, 2, 5
    made = BasisFilterGenerator(FilterSpec(c, o, (k, k), groups, m))
    torch.nn.init.normal_(made.routing.weight)
    x = torch.randn(2, c, 10, 8)
    mix = 2 * torch.sigmoid(F.linear(x.mean((2, 3)), made.routing.weight, made.routing.bias)).view(2, m, 8) / 8
    assert_near(made(x), torch.einsum("bme,eocij->bmocij", mix, made.bases.view(8, o, c // groups, k, k)), "filters")
    assert sum(p.numel() for p in made.parameters()) == 8 * m * c + 8 * m + 8 * o * c // groups * k * k


def test_basis_starts_as_the_released_code_does() -> None:
    made = BasisFilterGenerator(FilterSpec(32, 64, (3, 3), 2, 8))
    bound = math.sqrt(6 / (32 * 9))  # groups are left out of the fan-in there
    assert made.bases.abs().max() <= bound
    assert made.bases.abs().max() > 0.99 * bound
    assert made.bases.var().item() == pytest.approx(bound**2 / 3, rel=0.02)
    assert made.routing.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert (made.routing.bias == 0).all()
    filters = made(torch.randn(1, 32, 14, 14))[0].flatten(1)
    spread = (filters - filters.mean(0)).norm() / filters.norm()
    assert spread < 0.01, "at the start all filters are nearly equal"


def test_learned_ignores_the_input() -> None:
    made = LearnedFilters(FilterSpec(6, 4, (3, 3), 2, 5))
    filters = made(torch.randn(1, 6, 4, 4))
    assert filters.shape == (5, 4, 3, 3, 3)
    assert filters.data_ptr() == made.filters.data_ptr()
    assert made.filters.var().item() == pytest.approx(2 / 27, rel=0.15)


@pytest.mark.parametrize(
    ("channels", "out", "kernel", "groups", "regions", "size"),
    [
        (24, 24, 1, 1, 8, 28),
        (96, 96, 1, 1, 8, 7),
        (16, 32, 3, 1, 4, 14),
        (32, 32, 3, 4, 8, 7),
        (24, 24, 3, 24, 3, 9),
        (3, 16, 5, 1, 1, 32),
        (8, 8, 1, 1, 8, 1),
    ],
)
def test_pooled_starts_with_he_variance(
    channels: int, out: int, kernel: int, groups: int, regions: int, size: int
) -> None:
    fan_in = channels // groups * kernel * kernel
    # Enough seeds that the estimate itself is good to about 1 %.
    drawn = regions * out * (channels // groups)
    seeds = max(8, 40_000 // drawn)
    total, count = 0.0, 0
    for seed in range(seeds):
        torch.manual_seed(seed)
        made = PooledFilterGenerator(FilterSpec(channels, out, (kernel, kernel), groups, regions))
        with torch.no_grad():
            filters = made(torch.randn(1, channels, size, size))
        total += filters.double().square().sum().item()
        count += filters.numel()
    assert total / count == pytest.approx(2 / fan_in, rel=0.05)


def test_a_layer_keeps_the_variance_of_its_input_times_two() -> None:
    """What He variance is for: before a ReLU, E[y^2] = 2 * E[x^2] for normal input."""
    outputs = []
    for seed in range(20):
        torch.manual_seed(seed)
        layer = DRConv2d(32, 32, 3, padding=1)
        with torch.no_grad():
            outputs.append(layer(torch.randn(1, 32, 16, 16))[..., 1:-1, 1:-1])
    assert torch.stack(outputs).square().mean().item() == pytest.approx(2, rel=0.05)


def test_the_base_draws_nothing() -> None:
    with pytest.raises(TypeError, match="pooled, basis, learned"):
        FilterGenerator(FilterSpec(4, 4, (1, 1), 1, 2)).reset_parameters()
