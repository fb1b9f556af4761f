"""Calls timed against each other: interleaved rounds, each sample by the GPU's own clock on a cold cache."""

import random
from collections.abc import Callable, Mapping
from functools import cache
from time import perf_counter

import torch
from place import Place

from drconv.analysis.timing import Timing

__all__ = ["peak_memory", "race", "wall_race"]

_FLUSH = 256 << 20
"""Bytes that are written before each sample; several times the last cache of any GPU."""
_LONGEST_SLEEP = 2**28
_MOST_ROUNDS = 200


def race(place: Place, calls: Mapping[str, Callable[[], object]], seconds: float = 2.0) -> dict[str, Timing]:
    """Return the times that the GPU took for calls, in seconds, whatever the host took to ask for them.

    Before each sample the cache is flushed, and the GPU is kept busy for as long as the host needs to queue the call;
    that time is found by trying.

    Args:
        place: where.
        calls: by name; must not wait for the GPU.
        seconds: after which no new round begins, but for the first nine.
    """
    watch = _Watch(place)
    return _rounds(place, calls, seconds, watch.take)


def wall_race(place: Place, calls: Mapping[str, Callable[[], object]], seconds: float = 4.0) -> dict[str, Timing]:
    """Return the times of calls made one after the other, host and device together, as a user has them."""

    def take(call: Callable[[], object]) -> float:
        repeats = 1 if place.is_rehearsal else 10
        if not place.is_rehearsal:
            call()
        place.synchronize()
        start = perf_counter()
        for _ in range(repeats):
            call()
        place.synchronize()
        return (perf_counter() - start) / repeats

    return _rounds(place, calls, seconds, take)


def _rounds(
    place: Place,
    calls: Mapping[str, Callable[[], object]],
    seconds: float,
    take: Callable[[Callable[[], object]], float],
) -> dict[str, Timing]:
    for call in calls.values():
        # Compilation, cuDNN's search for its best algorithm, and memory.
        for _ in range(0 if place.is_rehearsal else 5):
            call()
    place.synchronize()
    samples: dict[str, list[float]] = {name: [] for name in calls}
    order, start, shuffle = list(calls), perf_counter(), random.Random(0).shuffle
    least, most = (1, 1) if place.is_rehearsal else (9, _MOST_ROUNDS)
    for done in range(most):
        if done >= least and perf_counter() - start > seconds:
            break
        shuffle(order)
        for name in order:
            samples[name].append(take(calls[name]))
    return {name: Timing(tuple(found)) for name, found in samples.items()}


class _Watch:
    """Takes samples by events."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._sleep: dict[Callable[[], object], int] = {}

    def take(self, call: Callable[[], object]) -> float:
        """Return seconds of one call."""
        if self._place.is_rehearsal:
            start = perf_counter()
            call()
            return perf_counter() - start
        while True:
            sleep = self._sleep.get(call, 2**20)
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            _flush_buffer(self._place.device).zero_()
            torch.cuda._sleep(sleep)
            before.record()
            call()
            after.record()
            # If the GPU has begun already, it may have waited for the host within the call.
            was_late = before.query()
            torch.cuda.synchronize(self._place.device)
            if not was_late:
                return before.elapsed_time(after) / 1e3
            if sleep >= _LONGEST_SLEEP:
                raise RuntimeError(
                    "the host takes longer to queue this call than the GPU can be kept busy; does it wait?"
                )
            self._sleep[call] = 2 * sleep


@cache
def _flush_buffer(device: torch.device) -> torch.Tensor:
    return torch.empty(_FLUSH, dtype=torch.uint8, device=device)


def peak_memory(place: Place, call: Callable[[], object]) -> int:
    """Return the most bytes that a call holds at once beside what was there before it; 0 in rehearsal."""
    call()
    if place.is_rehearsal:
        return 0
    place.synchronize()
    before = torch.cuda.memory_allocated(place.device)
    torch.cuda.reset_peak_memory_stats(place.device)
    call()
    place.synchronize()
    return torch.cuda.max_memory_allocated(place.device) - before
