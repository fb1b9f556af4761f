"""Margins per position, against probabilities computed by hand."""

import math

import pytest
import torch

from drconv.analysis import guide_margins


def test_margin_is_the_gap_between_the_two_largest_probabilities() -> None:
    scores = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    found = guide_margins(scores)
    assert found.shape == (2, 3, 4)
    for b in range(2):
        for u in range(3):
            for v in range(4):
                weights = [math.exp(score) for score in scores[b, :, u, v].tolist()]
                first, second = sorted((w / sum(weights) for w in weights), reverse=True)[:2]
                assert found[b, u, v].item() == pytest.approx(first - second, abs=1e-6)


def test_a_tie_is_0_and_a_single_region_is_1() -> None:
    assert guide_margins(torch.zeros(1, 3, 2, 2)).tolist() == [[[0, 0], [0, 0]]]
    assert guide_margins(torch.zeros(1, 1, 1, 2)).tolist() == [[[1, 1]]]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("num_regions", [1, 2])
def test_scores_that_are_not_finite_have_no_margin(bad: float, num_regions: int) -> None:
    scores = torch.zeros(1, num_regions, 1, 2)
    scores[0, 0, 0, 1] = bad
    assert guide_margins(scores).isnan().tolist() == [[[False, True]]]


def test_half_precision_is_measured_in_single() -> None:
    assert guide_margins(torch.zeros(1, 2, 1, 1, dtype=torch.bfloat16)).dtype is torch.float32
