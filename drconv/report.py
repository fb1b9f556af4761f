"""What every result offers to a renderer: one table of raw numbers and one JSON-ready dictionary."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from drconv.errors import ArgumentError

__all__ = ["Cell", "Column", "Kind", "Report", "Table"]

Cell = str | int | float | None
Kind = Literal["text", "count", "share", "seconds", "bytes", "rate", "ratio", "number"]
"""What a column holds: `seconds` are seconds, `rate` is per second, `share` is a fraction of 1.

Renderers choose units and rounding.
"""


@dataclass(frozen=True)
class Column:
    """One column of a `Table`.

    Attributes:
        name: header, and the key in CSV.
        kind: what the cells hold, so that a renderer can format them.
    """

    name: str
    kind: Kind = "text"


@dataclass(frozen=True)
class Table:
    """Rows of raw numbers under typed columns.

    Attributes:
        title: one line above the table.
        columns: the columns, left to right.
        rows: cells, one per column; None is an empty cell.
        notes: lines below the table (conventions, totals in words, what was left out).
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ArgumentError(f"a row of {self.title!r} has {len(row)} cells for {len(self.columns)} columns")


class Report(Protocol):
    """A frozen result that knows nothing about formats."""

    def to_table(self) -> Table:
        """Return the result as one table of raw numbers."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready values; keys stay the same within one schema version."""
        ...
