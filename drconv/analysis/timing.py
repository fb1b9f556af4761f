"""Interleaved timing: every round calls every candidate once, in a fresh order, so that drift hits all alike.

Rounds stop when the medians are known well enough, or when the time is up.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from statistics import median
from time import perf_counter_ns
from typing import Literal

import torch

from drconv.analysis.intervals import LEAST_SAMPLES, Ratio, median_interval, percentile, ratio_of_rounds, trend
from drconv.errors import ArgumentError

__all__ = ["Candidate", "StopRule", "Timing", "time_interleaved"]

_NOISY = 0.10
"""Interquartile range over the median from which a timing is called noisy."""
_DRIFTING = 0.05
"""Difference between the halves from which a timing is called drifting."""


@dataclass(frozen=True)
class Candidate:
    """One thing to time.

    Attributes:
        call: what is timed.
        prepare: called before each sample, untimed.
        repeatable: whether several calls may follow one `prepare`.
        primed: whether a call that is not timed comes right before each sample, so that caches hold what this candidate
            leaves in them, and not what another one did. Needs `repeatable`.
    """

    call: Callable[[], object]
    prepare: Callable[[], object] = lambda: None
    repeatable: bool = True
    primed: bool = False


@dataclass(frozen=True)
class StopRule:
    """When a measurement ends, and what comes before it.

    Attributes:
        rounds: exactly so many; None lets noise and time decide.
        target_noise: half width of the 95 % interval of the median, over the median, that every candidate must reach.
        max_time: seconds after which no further round begins, but for `min_rounds`.
        min_rounds: rounds that are done in any case.
        warmup: calls of each candidate before the first round.
        sample_time: seconds that a sample should last; shorter calls are repeated inside it.

    Raises:
        ArgumentError: a number is out of its range.
    """

    rounds: int | None = None
    target_noise: float = 0.02
    max_time: float = 4.0
    min_rounds: int = 7
    warmup: int = 3
    sample_time: float = 1e-4

    def __post_init__(self) -> None:
        if (self.rounds is not None and self.rounds < 1) or self.min_rounds < 1 or self.warmup < 0:
            raise ArgumentError(
                "rounds and min_rounds must be at least 1 and warmup at least 0, got "
                f"rounds={self.rounds}, min_rounds={self.min_rounds}, warmup={self.warmup}"
            )
        if not self.target_noise > 0 or not self.max_time > 0 or not self.sample_time >= 0:
            raise ArgumentError(
                "target_noise and max_time must be above 0 and sample_time not below it, got "
                f"target_noise={self.target_noise}, max_time={self.max_time}, sample_time={self.sample_time}"
            )


@dataclass(frozen=True)
class Timing:
    """Times of one candidate, in seconds per call, one per round.

    Attributes:
        samples: in the order of the rounds; sample i of every candidate is from the same round.
        calls: calls in each sample, whose time was divided by them.
        warmup: seconds that the calls before the first round took.
        stopped: what ended the rounds: a fixed number of them, the noise target, or the time limit.
    """

    samples: tuple[float, ...]
    calls: int = 1
    warmup: float = 0.0
    stopped: Literal["rounds", "noise", "time"] = "rounds"

    @cached_property
    def median(self) -> float:
        """Median time, in seconds."""
        return median(self.samples)

    @cached_property
    def iqr(self) -> float:
        """Distance between the first and the third quartile, in seconds."""
        return percentile(self.samples, 75) - percentile(self.samples, 25)

    @cached_property
    def p10(self) -> float:
        """Time below which a tenth of the samples lies, in seconds."""
        return percentile(self.samples, 10)

    @cached_property
    def p90(self) -> float:
        """Time above which a tenth of the samples lies, in seconds."""
        return percentile(self.samples, 90)

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """Distribution-free 95 % interval of the median, in seconds; None with fewer than 6 samples."""
        return median_interval(self.samples)

    @property
    def noise(self) -> float | None:
        """Half the width of that interval, over the median."""
        return None if self.interval is None else (self.interval[1] - self.interval[0]) / 2 / self.median

    @cached_property
    def quality(self) -> str:
        """'steady', or in plain words why not to rely on the median."""
        if self.interval is None:
            return f"few rounds: {len(self.samples)}, and {LEAST_SAMPLES} are the least for an interval"
        change = trend(self.samples)
        if change is not None and abs(change) > _DRIFTING:
            word = "slower" if change > 0 else "faster"
            return f"drifting: {abs(change):.0%} {word} in the second half"
        if self.iqr > _NOISY * self.median:
            return f"noisy: IQR {self.iqr / self.median:.0%} of the median"
        if self.stopped == "time":
            return f"time limit before the noise target, at +-{self.noise or 0:.1%}"
        return "steady"

    def ratio_to(self, other: "Timing") -> Ratio:
        """Return this time divided by the other's, round by round."""
        return ratio_of_rounds(self.samples, other.samples)


def time_interleaved(
    candidates: Mapping[str, Candidate],
    stop: StopRule,
    device: torch.device,
    *,
    seed: int = 0,
    clock: Callable[[], int] = perf_counter_ns,
) -> dict[str, Timing]:
    """Time functions against each other.

    Args:
        candidates: by name.
        stop: when to stop, and how much to do before.
        device: waited for before and after each sample; on CUDA its own events are the clock of samples.
        seed: of the order within rounds.
        clock: of samples elsewhere, and of the time limit, in nanoseconds.

    Returns:
        name -> times, in the order of `candidates`.
    """
    watch = _cuda_watch if device.type == "cuda" else _wall_watch
    warmed: dict[str, list[float]] = {
        name: [watch(candidate, 1, device, clock) for _ in range(stop.warmup)] for name, candidate in candidates.items()
    }
    calls = {name: _calls_per_sample(candidates[name], warmed[name], stop.sample_time) for name in candidates}
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    order, start, done = list(candidates), clock(), 0
    shuffle = random.Random(seed).shuffle
    stopped: Literal["rounds", "noise", "time"] | None = None
    while stopped is None:
        shuffle(order)
        for name in order:
            samples[name].append(watch(candidates[name], calls[name], device, clock) / calls[name])
        done += 1
        if stop.rounds is not None:
            stopped = "rounds" if done >= stop.rounds else None
        elif done >= stop.min_rounds:
            # Looking takes time, too: every round at first, every tenth part later.
            if done % max(1, done // 10) == 0 and all(_is_quiet(s, stop.target_noise) for s in samples.values()):
                stopped = "noise"
            elif (clock() - start) / 1e9 >= stop.max_time:
                stopped = "time"
    return {
        name: Timing(
            tuple(s),
            calls[name],
            sum(warmed[name]),
            # What reached the target did not need the time that others took.
            "noise" if stopped == "time" and _is_quiet(s, stop.target_noise) else stopped,
        )
        for name, s in samples.items()
    }


def _calls_per_sample(candidate: Candidate, warmed: list[float], sample_time: float) -> int:
    """Return how many calls last as long as a sample should; without warm-up nothing is known, and it is one."""
    if not candidate.repeatable or not warmed:
        return 1
    return max(1, ceil(sample_time / max(min(warmed), 1e-9)))


def _is_quiet(samples: list[float], target: float) -> bool:
    noise = Timing(tuple(samples)).noise
    return noise is not None and noise <= target


def _wall_watch(candidate: Candidate, calls: int, device: torch.device, clock: Callable[[], int]) -> float:
    candidate.prepare()
    call = candidate.call
    if candidate.primed:
        call()
    _wait(device)
    start = clock()
    for _ in range(calls):
        call()
    _wait(device)
    return (clock() - start) / 1e9


def _cuda_watch(candidate: Candidate, calls: int, device: torch.device, clock: Callable[[], int]) -> float:
    """Time by events in the device's own queue: what the host does besides is not in it unless the device waits."""
    candidate.prepare()
    call = candidate.call
    if candidate.primed:
        call()
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    with torch.cuda.device(device):
        before.record()
        for _ in range(calls):
            call()
        after.record()
    torch.cuda.synchronize(device)
    return float(before.elapsed_time(after)) / 1e3


def _wait(device: torch.device) -> None:
    if device.type == "mps":
        torch.mps.synchronize()
