"""Comma-separated raw numbers: shares as fractions, times in seconds."""

import csv
from io import StringIO

from drconv.report import Table

__all__ = ["to_csv"]


def to_csv(table: Table) -> str:
    """Render header and rows; title and notes have no place in CSV.

    Returns:
        Text ending in a newline.
    """
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.name for column in table.columns)
    writer.writerows(["" if value is None else value for value in row] for row in table.rows)
    return text.getvalue()
