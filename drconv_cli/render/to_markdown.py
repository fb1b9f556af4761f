"""A GitHub-flavoured Markdown table."""

from drconv.report import Table
from drconv_cli.render.cells import format_cell, is_numeric

__all__ = ["to_markdown"]


def to_markdown(table: Table) -> str:
    """Render title, table and notes.

    Returns:
        Text ending in a newline.
    """
    lines = [f"**{table.title}**", ""]
    lines.append(_row([column.name for column in table.columns]))
    lines.append("|" + "|".join("---:" if is_numeric(column.kind) else "---" for column in table.columns) + "|")
    lines += [_row([format_cell(v, c.kind) for v, c in zip(row, table.columns, strict=True)]) for row in table.rows]
    if table.notes:
        lines += ["", *table.notes]
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(cell: str) -> str:
    """Return a cell on one line; leading spaces, which are the levels of a tree, are kept."""
    text = cell.lstrip(" ")
    return "&nbsp;" * (len(cell) - len(text)) + " ".join(text.split()).replace("|", "\\|")
