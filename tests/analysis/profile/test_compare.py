"""Two profiles against each other, from numbers written here."""

from typing import Any

import pytest

from drconv.analysis.profile import check_profile, compare_profiles
from drconv.errors import FileError


def envelope(ratio: float, low: float, high: float, **other: Any) -> dict[str, Any]:
    candidate = {
        "candidate": "native", "layout": "NCHW", "cache": "warm", "median_s": other.pop("median", 1e-3),
        "to_conv2d": {"median": ratio, "interval": [low, high], "indistinguishable": False},
    }  # fmt: skip
    result = {"targets": [{"name": "layer", "candidates": [candidate]}], "pass": "forward", "dtype": "float32"}
    return {"schema": 1, "command": "profile", "environment": {"cpu": "Some CPU", **other}, "result": result}


OLD = envelope(1.00, 0.98, 1.02)


@pytest.mark.parametrize(
    ("new", "verdict", "fails"),
    [
        (envelope(1.00, 0.98, 1.02), "same", False),
        (envelope(1.04, 1.03, 1.05), "slower", False),  # by less than the limit
        (envelope(1.20, 1.15, 1.25), "slower", True),
        (envelope(1.20, 0.99, 1.40), "same", False),  # the old median lies inside the new interval
        (envelope(0.80, 0.75, 0.85), "faster", False),
    ],
)
def test_slower_by_more_than_the_limit_and_outside_of_both_intervals(
    new: dict[str, Any], verdict: str, fails: bool
) -> None:
    found = compare_profiles(OLD, new, "old.json", 0.05)
    (row,) = found.candidates
    assert (row.verdict, row.is_regression) == (verdict, fails)
    assert row.change == pytest.approx(new["result"]["targets"][0]["candidates"][0]["to_conv2d"]["median"] - 1)
    assert len(found.regressions) == fails
    assert not compare_profiles(OLD, new, "old.json").regressions


def test_a_machine_that_is_slower_as_a_whole_is_no_regression() -> None:
    found = compare_profiles(OLD, envelope(1.0, 0.98, 1.02, median=5e-3), "old.json", 0.05)
    assert (found.candidates[0].old_median, found.candidates[0].median) == (1e-3, 5e-3)
    assert not found.regressions


def test_candidates_without_a_partner_are_said() -> None:
    other = envelope(1.0, 0.98, 1.02)
    other["result"]["targets"][0]["candidates"][0]["layout"] = "channels_last"
    rows = compare_profiles(OLD, other, "old.json", 0.05).candidates
    assert [(row.layout, row.verdict) for row in rows] == [("channels_last", "only now"), ("NCHW", "only before")]
    refused = envelope(1.0, 0.98, 1.02)
    refused["result"]["targets"][0]["candidates"][0] |= {"to_conv2d": None, "median_s": None}
    assert compare_profiles(OLD, refused, "old.json", 0.05).candidates[0].verdict == "not timed in both"


def test_too_few_rounds_are_said_and_not_taken_for_the_same() -> None:
    few = envelope(3.0, 2.9, 3.1)
    few["result"]["targets"][0]["candidates"][0]["to_conv2d"]["interval"] = None
    found = compare_profiles(OLD, few, "old.json", 0.05)
    assert (found.candidates[0].verdict, found.regressions) == ("too few rounds to tell", ())


def test_another_environment_is_said() -> None:
    new = envelope(1.0, 0.98, 1.02, threads=2)
    new["result"]["pass"] = "step"
    found = compare_profiles(OLD, new, "old.json")
    assert found.differences == ("threads None before, 2 now", "pass 'forward' before, 'step' now")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "is not what drconv profile --json writes"),
        ({"command": "flops", "schema": 1, "result": {}}, "is not what drconv profile --json writes"),
        (OLD | {"schema": 2}, "has schema version 2, and this drconv reads 1"),
        (OLD | {"result": {"points": []}}, "is no profile of targets and candidates"),
        (OLD | {"result": {"targets": [{"name": "a", "candidates": [{"candidate": "b"}]}]}}, "is no profile"),
    ],
)
def test_files_that_are_not_ours(data: object, words: str) -> None:
    with pytest.raises(FileError, match=f"old.json {words}"):
        check_profile(data, "old.json", 1)
    assert check_profile(OLD, "old.json", 1) is OLD
