r"""A LaTeX table for a paper, with the rules of the booktabs package."""

from drconv.report import Table
from drconv_cli.render.cells import format_cell, is_numeric

__all__ = ["to_latex"]

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


def to_latex(table: Table) -> str:
    r"""Render a `table` environment; the title is its caption, the notes stand below it. Needs `\usepackage{booktabs}`.

    Returns:
        Text ending in a newline.
    """
    spec = "".join("r" if is_numeric(column.kind) else "l" for column in table.columns)
    rows = ([format_cell(v, c.kind) for v, c in zip(row, table.columns, strict=True)] for row in table.rows)
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{_escaped(table.title)}}}",
        rf"  \begin{{tabular}}{{{spec}}}",
        r"    \toprule",
        _row([column.name for column in table.columns]),
        r"    \midrule",
        *map(_row, rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        *(rf"  \par\footnotesize {_escaped(note)}" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return "    " + " & ".join(_indented(cell) for cell in cells) + r" \\"


def _indented(cell: str) -> str:
    """Return a cell with its leading spaces, which are the levels of a tree, kept as space."""
    text = cell.lstrip(" ")
    level = (len(cell) - len(text)) // 2
    return (rf"\hspace{{{level}em}}" if level else "") + _escaped(text)


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(letter, letter) for letter in " ".join(text.split()))
