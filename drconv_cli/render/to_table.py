"""A table for the terminal."""

from io import StringIO

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from drconv.report import Table
from drconv_cli.render.cells import format_cell, is_numeric

__all__ = ["to_table"]

_FILE_WIDTH = 1000


def to_table(table: Table, width: int | None = None) -> str:
    """Render a table with its title above and its notes below.

    Args:
        table: what to render.
        width: of the terminal, in characters, with colour; None renders plainly and as wide as the content is.

    Returns:
        Text ending in a newline.
    """
    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in table.columns:
        numeric = is_numeric(column.kind)
        grid.add_column(Text(column.name), justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in table.rows:
        grid.add_row(*(Text(format_cell(v, c.kind)) for v, c in zip(row, table.columns, strict=True)))
    text = StringIO()
    console = Console(
        file=text, width=width or _FILE_WIDTH, force_terminal=width is not None, no_color=None, highlight=False
    )
    console.print(Text(table.title, style="bold"))
    console.print(grid)
    for note in table.notes:
        console.print(Text(note, style="dim"), soft_wrap=width is None)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
