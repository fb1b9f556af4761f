"""Intervals of medians: against the binomial distribution, and against what drawing again and again gives."""

import random
from math import comb

import pytest

from drconv.analysis.intervals import Ratio, median_interval, percentile, ratio_of_rounds, trend


def test_known_ranks() -> None:
    """Of 6, 9, 20, 50 and 100 values, the usual tables take the 1st, 2nd, 6th, 18th and 40th from either end."""
    for n, rank in ((6, 1), (9, 2), (20, 6), (50, 18), (100, 40)):
        assert median_interval([float(i) for i in range(1, n + 1)]) == (rank, n + 1 - rank)


@pytest.mark.parametrize("n", [6, 7, 13, 31, 200, 201, 1000])
def test_coverage_is_at_least_95_percent_and_no_narrower_pair_has_it(n: int) -> None:
    low, _ = median_interval([float(i) for i in range(1, n + 1)])
    outside = 2 * sum(comb(n, i) for i in range(int(low))) / 2**n
    narrower = outside + 2 * comb(n, int(low)) / 2**n
    assert outside <= 0.05
    assert narrower > (0.05 if n <= 200 else 0.045)


def test_five_samples_cannot_enclose_the_median_that_surely() -> None:
    assert median_interval([1.0, 2, 3, 4, 5]) is None


def test_the_interval_covers_the_median_of_a_skewed_distribution() -> None:
    draw = random.Random(0)
    hits = 0
    for _ in range(400):
        low, high = median_interval([draw.expovariate(1.0) for _ in range(25)])
        hits += low <= 0.6931 <= high
    assert hits >= 0.93 * 400


def test_ratios_are_of_rounds_and_not_of_medians() -> None:
    found = ratio_of_rounds([1.0, 2, 3, 4, 100, 6], [2.0, 2, 2, 2, 50, 3])
    assert found.median == 1.75
    assert found.interval == (0.5, 2.0)
    assert found.is_indistinguishable
    assert not ratio_of_rounds([2.0] * 6, [1.0] * 6).is_indistinguishable
    assert Ratio(7.0, None).is_indistinguishable


def test_percentiles_lie_between_samples() -> None:
    samples = [float(i) for i in range(11)]
    assert [percentile(samples, p) for p in (10, 25, 50, 90)] == [1, 2.5, 5, 9]
    assert percentile([3.0], 90) == 3


def test_a_trend_needs_halves_that_are_apart() -> None:
    assert trend([1.0, 1.1, 1.0, 1.1, 1.0, 1.1, 2.0, 2.2, 2.0, 2.2, 2.0, 2.2]) == pytest.approx(1.0)
    assert trend([1.0, 2.0] * 8) is None
    assert trend([1.0, 1.0, 5.0, 5.0]) is None
