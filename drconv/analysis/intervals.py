"""What samples say about a median or a share: intervals, ratios, and how far to trust them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, sqrt
from statistics import median, quantiles

__all__ = ["LEAST_SAMPLES", "Ratio", "median_interval", "percentile", "ratio_of_rounds", "trend", "wilson_interval"]

LEAST_SAMPLES = 6
"""Samples below which no two of them enclose the median with a probability of 95 %."""

_EXACT = 200
"""Samples up to which the binomial sum is taken; above, its normal approximation is off by less than one rank."""


@dataclass(frozen=True)
class Ratio:
    """Median over rounds of one time divided by another of the same round.

    Attributes:
        median: below 1 is faster.
        interval: 95 % interval of that median; None with fewer than 6 rounds.
    """

    median: float
    interval: tuple[float, float] | None

    @property
    def is_indistinguishable(self) -> bool:
        """Whether the rounds do not tell which of the two is faster."""
        return self.interval is None or self.interval[0] <= 1 <= self.interval[1]


def median_interval(samples: Sequence[float]) -> tuple[float, float] | None:
    """Return the distribution-free 95 % interval of the median: the innermost pair of samples that has it.

    The number of samples below the true median is binomial with p = 1/2, whatever the distribution; so the k-th
    smallest and the k-th largest sample enclose the median unless fewer than k lie on one side of it.

    Returns:
        (low, high), or None with fewer than 6 samples, which cannot enclose it that surely.
    """
    if len(samples) < LEAST_SAMPLES:
        return None
    ordered, rank = sorted(samples), _rank(len(samples))
    return ordered[rank - 1], ordered[-rank]


@lru_cache(maxsize=4096)
def _rank(n: int) -> int:
    """Return the largest k for which P(fewer than k of n samples below the median) is at most 2.5 %."""
    if n > _EXACT:
        return max(1, int(n / 2 - 1.96 * sqrt(n) / 2))
    below, rank = 0, 0
    while 40 * (below + comb(n, rank)) <= 2**n:
        below += comb(n, rank)
        rank += 1
    return rank


def ratio_of_rounds(times: Sequence[float], others: Sequence[float]) -> Ratio:
    """Return the ratio of two series whose i-th samples are from the same round."""
    ratios = [a / b for a, b in zip(times, others, strict=True)]
    return Ratio(median(ratios), median_interval(ratios))


def percentile(samples: Sequence[float], percent: int) -> float:
    """Return the value below which a percentage of the samples lies, between two of them if need be."""
    if len(samples) < 2:
        return samples[0]
    return quantiles(samples, n=100, method="inclusive")[percent - 1]


def trend(samples: Sequence[float]) -> float | None:
    """Return how much larger the second half is than the first, as a fraction, if their intervals are apart.

    None where they overlap, or where a half has too few samples to tell.
    """
    half = len(samples) // 2
    first, second = samples[:half], samples[-half:] if half else ()
    a, b = median_interval(first), median_interval(second)
    if a is None or b is None or (a[0] <= b[1] and b[0] <= a[1]):
        return None
    return median(second) / median(first) - 1


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share, such as an accuracy; (0, 1) of no trials.

    Unlike the normal approximation it stays inside [0, 1] and holds near its ends. It takes trials to be independent.
    """
    if trials == 0:
        return 0.0, 1.0
    z = 1.959963984540054  # 97.5 % of a standard normal distribution lie below
    share, weight = successes / trials, z * z / trials
    middle = (share + weight / 2) / (1 + weight)
    half = z * sqrt(share * (1 - share) / trials + weight / (4 * trials)) / (1 + weight)
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    return low, 1.0 if successes == trials else min(1.0, middle + half)
