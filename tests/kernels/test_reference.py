"""The reference against what everybody knows."""

import pytest
import torch
import torch.nn.functional as F

from drconv.ops import region_conv2d
from tests.kernels.cases import ON_CPU

SETTINGS = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}


@pytest.mark.parametrize("backend", ON_CPU)
def test_one_region_is_conv2d(backend: str) -> None:
    x, w, bias = torch.randn(3, 6, 9, 8), torch.randn(10, 3, 3, 3), torch.randn(10)
    expected = F.conv2d(x, w, bias, **SETTINGS)
    guide = torch.randn(3, 1, *expected.shape[2:])
    actual = region_conv2d(x, w[None], guide, bias, **SETTINGS, backend=backend)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", ON_CPU)
def test_constant_mask_is_conv2d_with_that_filter(backend: str) -> None:
    x, filters = torch.randn(2, 4, 6, 5), torch.randn(2, 3, 5, 4, 3, 3)
    guide = torch.zeros(2, 3, 6, 5)
    guide[:, 2] = 1
    expected = torch.cat([F.conv2d(x[b : b + 1], filters[b, 2], padding=1) for b in range(2)])
    torch.testing.assert_close(region_conv2d(x, filters, guide, padding=1, backend=backend), expected)


@pytest.mark.parametrize("backend", ON_CPU)
def test_renumbering_regions_changes_nothing(backend: str) -> None:
    x, filters, guide = torch.randn(2, 4, 6, 5), torch.randn(2, 5, 3, 4, 3, 3), torch.randn(2, 5, 6, 5)
    order = torch.tensor([3, 0, 4, 1, 2])
    first = region_conv2d(x, filters, guide, padding=1, backend=backend)
    second = region_conv2d(x, filters[:, order], guide[:, order], padding=1, backend=backend)
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("backend", ON_CPU)
def test_a_position_depends_on_its_own_regions_filter_only(backend: str) -> None:
    x, filters, guide = torch.randn(1, 4, 6, 5), torch.randn(1, 3, 2, 4, 3, 3), torch.randn(1, 3, 6, 5)
    changed = filters.clone()
    changed[:, 1] += 1
    before, after = (region_conv2d(x, w, guide, padding=1, backend=backend) for w in (filters, changed))
    moved = (before != after).any(1)
    assert torch.equal(moved, guide.argmax(1) == 1)
