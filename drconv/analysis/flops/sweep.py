"""Count a model over a grid of settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from torch import nn

from drconv.analysis.flops.count import count_flops
from drconv.analysis.flops.kinds import CONVENTION
from drconv.analysis.flops.report import FlopReport
from drconv.errors import ArgumentError
from drconv.report import Cell, Column, Table

__all__ = ["SweepPoint", "SweepReport", "sweep_flops"]


@dataclass(frozen=True)
class SweepPoint:
    """One setting and its totals per image.

    Attributes:
        settings: one value per axis.
        madds: multiply-adds with one filter per position.
        executed: multiply-adds that the backend does.
        generated: filter weights made for each image.
        params: stored parameters.
    """

    settings: tuple[Any, ...]
    madds: int
    executed: int
    generated: int
    params: int


@dataclass(frozen=True)
class SweepReport:
    """Totals over a grid.

    Attributes:
        axes: names of the settings.
        points: in the order of the grid, the last axis fastest.
        convention: what the numbers are.
    """

    axes: tuple[str, ...]
    points: tuple[SweepPoint, ...]
    convention: str = CONVENTION

    def to_table(self) -> Table:
        """Return a row per setting."""
        columns = [Column(axis) for axis in self.axes]
        columns += [Column("theory", "count"), Column("executed", "count"), Column("ratio", "ratio")]
        columns += [Column("generated", "count"), Column("params", "count")]
        rows: list[tuple[Cell, ...]] = [
            (
                *map(_words, x.settings),
                x.madds,
                x.executed,
                x.executed / x.madds if x.madds else None,
                x.generated,
                x.params,
            )
            for x in self.points
        ]
        return Table(
            f"MAdds and parameters over {', '.join(self.axes)}", tuple(columns), tuple(rows), (f"{self.convention}.",)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings and totals of every point."""
        return {
            "convention": self.convention,
            "axes": list(self.axes),
            "points": [
                {
                    "settings": dict(zip(self.axes, x.settings, strict=True)),
                    "madds": x.madds,
                    "executed": x.executed,
                    "generated": x.generated,
                    "params": x.params,
                }
                for x in self.points
            ],
        }


def _words(setting: Any) -> str:
    """Return a setting as its user writes it; a size of two sides as HxW."""
    return "x".join(map(str, setting)) if isinstance(setting, tuple) else str(setting)


def sweep_flops(
    build: Callable[..., nn.Module],
    axes: Mapping[str, Sequence[Any]],
    input_size: tuple[int, ...] = (3, 224, 224),
    *,
    count: Callable[..., FlopReport] = count_flops,
    progress: Callable[[str, int, int], object] | None = None,
) -> SweepReport:
    """Count a model at every point of a grid.

    Args:
        build: makes the model from one keyword per axis, but for `size`.
        axes: keyword -> values. The values of `size` are image sizes, H or (H, W), in pixels.
        input_size: of one image, (C, H, W), where `size` is no axis.
        count: from a model and an input size to a report.
        progress: called with (the settings in words, points done, points) before each is counted.

    Returns:
        The totals of every point.

    Raises:
        ArgumentError: there is no axis, an axis has no values, or a setting does not fit the model.
        ModelError: the model fails.
    """
    if not axes or not all(axes.values()):
        raise ArgumentError(f"a sweep needs at least one axis, and values for each, got axes={dict(axes)!r}")
    grid = list(product(*axes.values()))
    points = []
    for done, values in enumerate(grid):
        settings = dict(zip(axes, values, strict=True))
        if progress is not None:
            progress(", ".join(f"{key}={value}" for key, value in settings.items()), done, len(grid))
        keywords = {key: value for key, value in settings.items() if key != "size"}
        size = input_size if "size" not in settings else (input_size[0], *_pixels(settings["size"]))
        report = count(build(**keywords), size)
        points.append(SweepPoint(values, report.madds, report.executed, report.generated, report.params))
    return SweepReport(tuple(axes), tuple(points))


def _pixels(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width
