"""What `drconv compare` returns: how well the regions of two checkpoints, layers or images agree."""

from dataclasses import dataclass
from typing import Any

from drconv.report import Cell, Column, Table

__all__ = ["ComparisonReport", "LayerComparison"]


@dataclass(frozen=True)
class LayerComparison:
    """Two guided masks, their regions matched.

    Attributes:
        first, second: what the masks are of.
        grid: (U, V) on which they were compared, the finer of the two along each axis.
        num_regions: M of the first and of the second.
        agreement: share of positions with matched regions.
        adjusted_mutual_information: 1 for the same partition, about 0 for unrelated ones; needs no matching.
        names: region of the first mask that each of the second is matched with; M of the first and beyond where there
            was none left.
        overlaps: for each region of the first mask, positions shared with its partner over those of either.
        unscored: positions of the first and of the second whose scores are not finite; they have a region, but it
            means nothing.
    """

    first: str
    second: str
    grid: tuple[int, int]
    num_regions: tuple[int, int]
    agreement: float
    adjusted_mutual_information: float
    names: tuple[int, ...]
    overlaps: tuple[float | None, ...]
    unscored: tuple[int, int] = (0, 0)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "first": self.first,
            "second": self.second,
            "grid": list(self.grid),
            "num_regions": list(self.num_regions),
            "agreement": self.agreement,
            "adjusted_mutual_information": self.adjusted_mutual_information,
            "names": list(self.names),
            "overlaps": list(self.overlaps),
            "unscored": list(self.unscored),
        }


@dataclass(frozen=True)
class ComparisonReport:
    """Comparisons of several layers, in the order in which they ran.

    Attributes:
        kind: "checkpoints", "layers" or "images".
        first, second: what was compared.
        layers: one entry per pair of layers.
        notes: lines below the table.
    """

    kind: str
    first: str
    second: str
    layers: tuple[LayerComparison, ...]
    notes: tuple[str, ...] = ()

    def to_table(self) -> Table:
        """Return one row per pair of layers."""
        columns = (
            Column("first"),
            Column("second"),
            Column("grid"),
            Column("agreement", "share"),
            Column("AMI", "number"),
            Column("matched, second as first"),
        )
        rows: list[tuple[Cell, ...]] = []
        for x in self.layers:
            matched = ", ".join(f"{j} as {name}" for j, name in enumerate(x.names) if name < x.num_regions[0])
            if x.names == tuple(range(len(x.names))):
                matched = "as numbered"
            grid = f"{x.grid[0]}x{x.grid[1]}"
            rows.append((x.first, x.second, grid, x.agreement, x.adjusted_mutual_information, matched))
        notes = (
            *self.notes,
            "agreement: share of positions whose regions are matched, for checkpoints and layers after the best "
            "matching. AMI: adjusted mutual information, 1 for the same partition, about 0 for unrelated ones.",
        )
        return Table(f"Regions of {self.first} and {self.second}", columns, tuple(rows), notes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "kind": self.kind,
            "first": self.first,
            "second": self.second,
            "layers": [layer.to_dict() for layer in self.layers],
        }
