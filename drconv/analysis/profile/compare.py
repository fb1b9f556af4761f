"""Hold a profile against an older one: ratios to `nn.Conv2d`, which drift of the machine leaves alone."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from drconv.errors import FileError
from drconv.report import Cell, Column, Table

__all__ = ["ComparedCandidate", "Comparison", "check_profile", "compare_profiles"]

_SAME_MACHINE = ("cpu", "device", "device_name", "threads", "torch", "native_isa", "cpu_capability", "variables")
"""Entries of an environment whose change changes times."""


@dataclass(frozen=True)
class ComparedCandidate:
    """One candidate of one target, before and after.

    Attributes:
        target, candidate, layout, cache: what both have in common.
        old_ratio, ratio: time over the best `conv2d`; None where there is none.
        old_interval, interval: 95 % intervals of these.
        old_median, median: seconds.
        verdict: "slower", "faster", "same", "too few rounds to tell", "not timed in both", "only before" or "only now".
        is_regression: slower by more than the limit, and outside of both intervals.
    """

    target: str
    candidate: str
    layout: str
    cache: str
    old_ratio: float | None
    ratio: float | None
    old_interval: tuple[float, float] | None
    interval: tuple[float, float] | None
    old_median: float | None
    median: float | None
    verdict: str
    is_regression: bool = False

    @property
    def change(self) -> float | None:
        """How much larger the ratio is now, as a fraction."""
        return None if self.ratio is None or self.old_ratio is None else self.ratio / self.old_ratio - 1


@dataclass(frozen=True)
class Comparison:
    """A profile against an older one.

    Attributes:
        against: name of the older file.
        fail_over: change of the ratio from which "slower" is a regression; None only shows.
        candidates: of both profiles.
        differences: of the two environments, a line each.
    """

    against: str
    fail_over: float | None
    candidates: tuple[ComparedCandidate, ...]
    differences: tuple[str, ...] = ()

    @property
    def regressions(self) -> tuple[ComparedCandidate, ...]:
        """Those that became slower by more than the limit."""
        return tuple(c for c in self.candidates if c.is_regression)

    def to_table(self) -> Table:
        """Return one row per candidate."""
        columns = (
            Column("target"), Column("candidate"), Column("layout"), Column("ratio before", "ratio"),
            Column("95 % before"), Column("ratio now", "ratio"), Column("95 % now"), Column("change", "share"),
            Column("before", "seconds"), Column("now", "seconds"), Column("verdict"),
        )  # fmt: skip
        rows: list[tuple[Cell, ...]] = [
            (
                c.target, c.candidate, c.layout + (" cold" if c.cache == "cold" else ""),
                c.old_ratio, _span(c.old_interval), c.ratio, _span(c.interval), c.change,
                c.old_median, c.median, c.verdict + (" (regression)" if c.is_regression else ""),
            )
            for c in self.candidates
        ]  # fmt: skip
        limit = "" if self.fail_over is None else f" by more than {100 * self.fail_over:.3g} %"
        notes = [
            f"Against {self.against}. Ratios are to the best nn.Conv2d of the same run, so that a slower machine does "
            f"not count. A regression is slower{limit} and outside of both 95 % intervals."
        ]
        notes += [f"Warning: another environment: {line}." for line in self.differences]
        return Table("Compared with before", columns, tuple(rows), tuple(notes))

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison."""
        found = [{**asdict(c), "change": c.change} for c in self.candidates]
        return {
            "against": self.against,
            "fail_over": self.fail_over,
            "regressions": len(self.regressions),
            "differences": list(self.differences),
            "candidates": found,
        }


def _span(interval: tuple[float, float] | None) -> str | None:
    return None if interval is None else f"{interval[0]:.2f}-{interval[1]:.2f}"


def check_profile(data: object, name: str, schema: int) -> dict[str, Any]:
    """Return what `drconv profile --json` wrote, after a look at whether it is that.

    Args:
        data: of the file.
        name: of the file, for the message.
        schema: the version that is understood.

    Raises:
        FileError: it is something else, or of another version.
    """
    if not isinstance(data, dict) or data.get("command") != "profile" or not isinstance(data.get("result"), dict):
        raise FileError(f"{name} is not what drconv profile --json writes; give such a file to --compare")
    if data.get("schema") != schema:
        raise FileError(f"{name} has schema version {data.get('schema')}, and this drconv reads {schema}: profile anew")
    result = data["result"]
    try:
        for target in result["targets"]:
            for c in target["candidates"]:
                _key(target, c)
                _numbers(c)
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(
            f"{name} is no profile of targets and candidates (a sweep, a dry run, or of another version): {error}"
        ) from error
    return data


def compare_profiles(
    old: Mapping[str, Any], new: Mapping[str, Any], against: str, fail_over: float | None = None
) -> Comparison:
    """Match targets and candidates by name, and compare their ratios.

    Args:
        old: envelope of the older profile, which `check_profile` has accepted.
        new: envelope of the new one.
        against: name of the older file.
        fail_over: change of a ratio from which it is a regression, if the intervals allow.
    """
    before, now = dict(_candidates(old)), dict(_candidates(new))
    keys = list(dict.fromkeys([*now, *before]))
    rows = tuple(_compared(key, before.get(key), now.get(key), fail_over) for key in keys)
    return Comparison(against, fail_over, rows, tuple(_differences(old, new)))


_Key = tuple[str, str, str, str]


def _key(target: Mapping[str, Any], candidate: Mapping[str, Any]) -> _Key:
    return target["name"], candidate["candidate"], candidate["layout"], candidate["cache"]


def _numbers(
    candidate: Mapping[str, Any] | None,
) -> tuple[float | None, tuple[float, float] | None, float | None]:
    """Return ratio, its interval, and median time."""
    if candidate is None:
        return None, None, None
    ratio, median = candidate["to_conv2d"], candidate["median_s"]
    if ratio is None:
        return None, None, median
    low_high = ratio["interval"]
    interval = None if low_high is None else (float(low_high[0]), float(low_high[1]))
    return float(ratio["median"]), interval, median


def _candidates(data: Mapping[str, Any]) -> Iterator[tuple[_Key, Mapping[str, Any]]]:
    for target in data["result"]["targets"]:
        for candidate in target["candidates"]:
            yield _key(target, candidate), candidate


def _compared(
    key: _Key, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, fail_over: float | None
) -> ComparedCandidate:
    (a, a_span, a_time), (b, b_span, b_time) = _numbers(old), _numbers(new)
    verdict, regressed = "same", False
    if a is None or b is None:
        verdict = "only now" if old is None else "only before" if new is None else "not timed in both"
    elif a_span is None or b_span is None:
        verdict = "too few rounds to tell"
    else:
        # Outside of both: each median lies beyond the other's interval.
        if b > a_span[1] and a < b_span[0]:
            verdict = "slower"
            regressed = fail_over is not None and b / a - 1 > fail_over
        elif b < a_span[0] and a > b_span[1]:
            verdict = "faster"
    return ComparedCandidate(*key, a, b, a_span, b_span, a_time, b_time, verdict, regressed)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    a, b = old.get("environment") or {}, new.get("environment") or {}
    for name in _SAME_MACHINE:
        if a.get(name) != b.get(name):
            yield f"{name} {a.get(name)!r} before, {b.get(name)!r} now"
    for name in ("pass", "scope", "input_shape", "dtype"):
        x, y = old["result"].get(name), new["result"].get(name)
        if x != y:
            yield f"{name} {x!r} before, {y!r} now"
