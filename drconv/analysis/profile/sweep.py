"""Profiles over a grid of settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from drconv.analysis.profile.report import ProfileReport, TargetProfile, environment_line, span
from drconv.errors import ArgumentError
from drconv.report import Cell, Column, Table

__all__ = ["ProfilePoint", "ProfileSweep", "sweep_profiles"]


@dataclass(frozen=True)
class ProfilePoint:
    """One setting and its profile.

    Attributes:
        settings: one value per axis.
        report: with one target, which is the layer or the network.
    """

    settings: tuple[Any, ...]
    report: ProfileReport

    @property
    def target(self) -> TargetProfile:
        """What was timed."""
        return self.report.targets[-1]


@dataclass(frozen=True)
class ProfileSweep:
    """Profiles over a grid.

    Attributes:
        subject: what was profiled, in words.
        axes: names of the settings.
        points: in the order of the grid, the last axis fastest.
    """

    subject: str
    axes: tuple[str, ...]
    points: tuple[ProfilePoint, ...]

    @property
    def environment(self) -> dict[str, Any]:
        """Where the first point was measured."""
        return self.points[0].report.environment

    def to_table(self) -> Table:
        """Return a row per point and candidate."""
        columns = [Column(axis) for axis in self.axes]
        columns += [
            Column("candidate"), Column("layout"), Column("median", "seconds"), Column("IQR", "seconds"),
            Column("n", "count"), Column("vs conv2d", "ratio"), Column("95 %"), Column("vs naive", "ratio"),
            Column("peak memory", "bytes"), Column("error", "number"), Column("remark"),
        ]  # fmt: skip
        rows: list[tuple[Cell, ...]] = []
        for point in self.points:
            for c in point.target.candidates:
                t = c.timing
                rows.append(
                    (
                        *map(words, point.settings), c.candidate, c.layout + (" cold" if c.cache == "cold" else ""),
                        None if t is None else t.median, None if t is None else t.iqr,
                        None if t is None else len(t.samples),
                        None if c.to_conv2d is None else c.to_conv2d.median,
                        None if c.to_conv2d is None or c.is_baseline else span(c.to_conv2d.interval),
                        None if c.to_naive is None else c.to_naive.median, c.peak_memory, c.error, c.remark,
                    )
                )  # fmt: skip
        first = self.points[0].report
        notes = (
            f"{self.subject}; {first.which}, {first.dtype}. Ratios are medians of per-round ratios, 1.00x is the "
            "faster layout of nn.Conv2d; 95 %: distribution-free interval of that median.",
            environment_line(self.environment),
        )
        return Table(f"Times over {', '.join(self.axes)}", tuple(columns), tuple(rows), notes)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings and the profile of every point."""
        return {
            "subject": self.subject,
            "axes": list(self.axes),
            "points": [
                {"settings": dict(zip(self.axes, point.settings, strict=True)), **point.report.to_dict()}
                for point in self.points
            ],
        }


def words(setting: Any) -> str:
    """Return a setting as its user writes it; a size of two sides as HxW."""
    return "x".join(map(str, setting)) if isinstance(setting, tuple) else str(setting)


def sweep_profiles(
    subject: str,
    measure: Callable[[dict[str, Any]], ProfileReport],
    axes: Mapping[str, Sequence[Any]],
    *,
    progress: Callable[[str, int, int], object] | None = None,
) -> ProfileSweep:
    """Profile at every point of a grid.

    Args:
        subject: what is profiled, in words.
        measure: from one value per axis to a profile.
        axes: name -> values.
        progress: called with (the settings in words, points done, points) before each is profiled.

    Raises:
        ArgumentError: there is no axis, or an axis has no values.
    """
    if not axes or not all(axes.values()):
        raise ArgumentError(f"a sweep needs at least one axis, and values for each, got axes={dict(axes)!r}")
    grid, points = list(product(*axes.values())), []
    for done, values in enumerate(grid):
        settings = dict(zip(axes, values, strict=True))
        if progress is not None:
            progress(", ".join(f"{key}={words(value)}" for key, value in settings.items()), done, len(grid))
        points.append(ProfilePoint(values, measure(settings)))
    return ProfileSweep(subject, tuple(axes), tuple(points))
