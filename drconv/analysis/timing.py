"""Interleaved timing: every round calls every candidate once, in a fresh order, so that drift hits all alike."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter_ns

import torch

from drconv.errors import ArgumentError

__all__ = ["Candidate", "Timing", "time_interleaved"]


@dataclass(frozen=True)
class Candidate:
    """One thing to time.

    Attributes:
        call: what is timed.
        prepare: called before it, untimed.
    """

    call: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Timing:
    """Times of one candidate, in seconds, one per round.

    Attributes:
        samples: in the order of the rounds; sample i of every candidate is from the same round.
    """

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median time, in seconds."""
        return median(self.samples)

    @property
    def iqr(self) -> float:
        """Distance between the first and the third quartile, in seconds."""
        if len(self.samples) < 2:
            return 0.0
        first, _, third = quantiles(self.samples, n=4, method="inclusive")
        return third - first

    def ratio_to(self, other: "Timing") -> float:
        """Return the median over rounds of this time divided by the other's in the same round."""
        return median(a / b for a, b in zip(self.samples, other.samples, strict=True))


def time_interleaved(
    candidates: Mapping[str, Candidate],
    *,
    rounds: int,
    warmup: int,
    device: torch.device,
    seed: int = 0,
) -> dict[str, Timing]:
    """Time functions against each other.

    Args:
        candidates: by name.
        rounds: calls of each that are timed.
        warmup: calls of each before that.
        device: waited for before and after each call.
        seed: of the order within rounds.

    Returns:
        name -> times, in the order of `candidates`.
    """
    if rounds < 1 or warmup < 0:
        raise ArgumentError(f"rounds must be at least 1 and warmup at least 0, got {rounds=}, {warmup=}")
    for _ in range(warmup):
        for candidate in candidates.values():
            _time_once(candidate, device)
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates)
    shuffle = random.Random(seed).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            samples[name].append(_time_once(candidates[name], device))
    return {name: Timing(tuple(times)) for name, times in samples.items()}


def _time_once(candidate: Candidate, device: torch.device) -> float:
    candidate.prepare()
    _wait(device)
    start = perf_counter_ns()
    candidate.call()
    _wait(device)
    return (perf_counter_ns() - start) / 1e9


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
