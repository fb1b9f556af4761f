"""Interleaving and ratios; no test here depends on how fast anything is."""

import pytest
import torch

from drconv.analysis.timing import Candidate, Timing, time_interleaved
from drconv.errors import ArgumentError


def test_every_round_calls_every_candidate_once_in_changing_order() -> None:
    calls: list[str] = []
    candidates = {n: Candidate(lambda n=n: calls.append(n), lambda n=n: calls.append(f"prepare {n}")) for n in "abc"}
    timings = time_interleaved(candidates, rounds=8, warmup=2, device=torch.device("cpu"))
    assert [call.startswith("prepare") for call in calls] == [True, False] * 30
    made = calls[1::2]
    rounds = ["".join(made[i : i + 3]) for i in range(0, 30, 3)]
    assert all(sorted(r) == ["a", "b", "c"] for r in rounds)
    assert len(set(rounds[2:])) > 1
    assert {name: len(t.samples) for name, t in timings.items()} == {"a": 8, "b": 8, "c": 8}
    assert all(sample >= 0 for t in timings.values() for sample in t.samples)


def test_preparation_is_not_timed() -> None:
    slow = Candidate(lambda: None, prepare=lambda: [i * i for i in range(300_000)])
    timing = time_interleaved({"slow": slow}, rounds=3, warmup=0, device=torch.device("cpu"))["slow"]
    spent = time_interleaved({"work": Candidate(slow.prepare)}, rounds=3, warmup=0, device=torch.device("cpu"))["work"]
    assert timing.median < spent.median


def test_median_iqr_and_ratio_of_rounds() -> None:
    a, b = Timing((1.0, 2.0, 3.0, 4.0, 100.0)), Timing((2.0, 2.0, 2.0, 2.0, 50.0))
    assert a.median == 3
    assert a.iqr == 2
    assert a.ratio_to(b) == 1.5  # of 0.5, 1, 1.5, 2, 2
    assert Timing((1.0,)).iqr == 0


@pytest.mark.parametrize(("rounds", "warmup"), [(0, 0), (1, -1)])
def test_bad_counts(rounds: int, warmup: int) -> None:
    with pytest.raises(ArgumentError, match="rounds must be at least 1"):
        time_interleaved({}, rounds=rounds, warmup=warmup, device=torch.device("cpu"))
