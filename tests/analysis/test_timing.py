"""Interleaving, repeating and stopping, under a clock that the tests turn; nothing depends on how fast anything is."""

import random
from collections.abc import Callable

import pytest
import torch

from drconv.analysis.timing import Candidate, StopRule, Timing, time_interleaved
from drconv.errors import ArgumentError

CPU = torch.device("cpu")


class Clock:
    """Time that passes only when something takes it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> int:
        return round(self.now * 1e9)

    def taking(self, seconds: Callable[[], float]) -> Callable[[], None]:
        def call() -> None:
            self.now += seconds()

        return call


def test_every_round_calls_every_candidate_once_in_changing_order() -> None:
    calls: list[str] = []
    candidates = {n: Candidate(lambda n=n: calls.append(n), lambda n=n: calls.append(f"prepare {n}")) for n in "abc"}
    timings = time_interleaved(candidates, StopRule(rounds=8, warmup=2, sample_time=0), CPU)
    assert [call.startswith("prepare") for call in calls] == [True, False] * 30
    made = calls[1::2]
    assert made[:6] == list("aabbcc")
    rounds = ["".join(made[i : i + 3]) for i in range(6, 30, 3)]
    assert all(sorted(r) == ["a", "b", "c"] for r in rounds)
    assert len(set(rounds)) > 1
    assert {name: len(t.samples) for name, t in timings.items()} == {"a": 8, "b": 8, "c": 8}


def test_preparation_is_not_timed_and_warm_up_is_told_apart() -> None:
    clock = Clock()
    first = iter([5.0])
    slow = Candidate(clock.taking(lambda: next(first, 0.5)), prepare=clock.taking(lambda: 100.0))
    timing = time_interleaved({"slow": slow}, StopRule(rounds=3, warmup=2), CPU, clock=clock)["slow"]
    assert timing.samples == (0.5, 0.5, 0.5)
    assert timing.warmup == 5.5
    assert timing.stopped == "rounds"


def test_short_calls_are_repeated_until_a_sample_is_long_enough() -> None:
    clock = Clock()
    done = []
    short, long = clock.taking(lambda: 3e-6), clock.taking(lambda: 2e-3)
    candidates = {
        "short": Candidate(lambda: (done.append(1), short())),
        "long": Candidate(long),
        "once": Candidate(short, repeatable=False),
    }
    found = time_interleaved(candidates, StopRule(rounds=4, warmup=2, sample_time=1e-4), CPU, clock=clock)
    assert {name: timing.calls for name, timing in found.items()} == {"short": 34, "long": 1, "once": 1}
    assert len(done) == 2 + 4 * 34
    assert found["short"].samples == pytest.approx([3e-6] * 4, rel=1e-3)


def test_a_primed_candidate_is_called_once_more_before_each_sample() -> None:
    """Whatever another one did to the caches falls on the call that is not timed."""
    clock, calls = Clock(), []

    def call() -> None:
        calls.append("a")
        clock.now += 1.0 if calls[-2:] == ["a", "a"] else 7.0

    found = time_interleaved(
        {"a": Candidate(call, primed=True), "other": Candidate(lambda: calls.append("other"))},
        StopRule(rounds=9, warmup=1),
        CPU,
        clock=clock,
    )
    assert found["a"].samples == (1.0,) * 9
    assert calls.count("a") == 20


def test_without_warm_up_nothing_is_known_and_a_sample_is_one_call() -> None:
    clock = Clock()
    timing = time_interleaved(
        {"a": Candidate(clock.taking(lambda: 1e-6))}, StopRule(rounds=2, warmup=0), CPU, clock=clock
    )
    assert timing["a"].calls == 1


def test_it_stops_when_every_median_is_known() -> None:
    clock, draw = Clock(), random.Random(1)
    candidates = {
        "steady": Candidate(clock.taking(lambda: 1.0)),
        "noisy": Candidate(clock.taking(lambda: draw.uniform(0.9, 1.1))),
    }
    stop = StopRule(target_noise=0.03, max_time=1e6, min_rounds=7)
    found = time_interleaved(candidates, stop, CPU, clock=clock)
    assert {timing.stopped for timing in found.values()} == {"noise"}
    assert all(timing.noise <= 0.03 for timing in found.values())
    assert 7 < len(found["steady"].samples) < 500
    alone = time_interleaved({"steady": candidates["steady"]}, stop, CPU, clock=clock)
    assert len(alone["steady"].samples) == 7


def test_it_stops_when_the_time_is_up_but_not_before_the_least_rounds() -> None:
    clock, draw = Clock(), random.Random(1)
    candidates = {
        "steady": Candidate(clock.taking(lambda: 1.0)),
        "wild": Candidate(clock.taking(lambda: draw.uniform(0.1, 1.9))),
    }
    found = time_interleaved(candidates, StopRule(target_noise=1e-4, max_time=40, warmup=0), CPU, clock=clock)
    assert found["wild"].stopped == "time"
    assert found["wild"].quality.startswith("noisy: IQR")
    assert found["steady"].stopped == "noise"
    assert found["steady"].quality == "steady"
    assert sum(sum(timing.samples) for timing in found.values()) < 45
    least = time_interleaved(candidates, StopRule(target_noise=1e-4, max_time=1, min_rounds=9), CPU, clock=clock)
    assert len(least["wild"].samples) == 9


def test_quality_says_why_in_plain_words() -> None:
    rising = tuple(1 + 0.02 * i for i in range(20))
    assert Timing(rising).quality == "drifting: 18% slower in the second half"
    assert Timing(rising[::-1]).quality == "drifting: 16% faster in the second half"
    assert Timing((1.0, 1.4) * 10).quality == "noisy: IQR 33% of the median"
    assert Timing((1.0, 1.04) * 10).quality == "steady"
    assert Timing((1.0, 1.04) * 10, stopped="time").quality == "time limit before the noise target, at +-2.0%"
    assert Timing((1.0,) * 5).quality == "few rounds: 5, and 6 are the least for an interval"


def test_median_quartiles_and_ratio_of_rounds() -> None:
    a, b = Timing((1.0, 2.0, 3.0, 4.0, 100.0)), Timing((2.0, 2.0, 2.0, 2.0, 50.0))
    assert (a.median, a.iqr, a.p10, a.p90) == (3, 2, 1.4, pytest.approx(61.6))
    assert a.ratio_to(b).median == 1.5  # of 0.5, 1, 1.5, 2, 2
    assert (Timing((1.0,)).iqr, Timing((1.0,)).interval, Timing((1.0,)).noise) == (0, None, None)


@pytest.mark.parametrize(
    "wrong",
    [{"rounds": 0}, {"warmup": -1}, {"min_rounds": 0}, {"target_noise": 0}, {"max_time": 0}, {"sample_time": -1}],
    ids=str,
)
def test_bad_numbers(wrong: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        StopRule(**wrong)
