"""Output formats: each turns a table, or the JSON envelope, into text."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drconv.registry import Registry
from drconv.report import Table
from drconv_cli.render.to_csv import to_csv
from drconv_cli.render.to_json import to_json
from drconv_cli.render.to_latex import to_latex
from drconv_cli.render.to_markdown import to_markdown
from drconv_cli.render.to_table import to_table

__all__ = ["FORMATS", "Format"]


@dataclass(frozen=True)
class Format:
    """One output format.

    Attributes:
        suffixes: of the files that are taken to be in it.
        render: (table, envelope, terminal width or None for a file) -> text ending in a newline.
    """

    suffixes: tuple[str, ...]
    render: Callable[[Table, dict[str, Any], int | None], str]


FORMATS: Registry[Format] = Registry("format")
FORMATS.add("table", Format((".txt",), lambda table, _, width: to_table(table, width)))
FORMATS.add("json", Format((".json",), lambda _, envelope, __: to_json(envelope)))
FORMATS.add("csv", Format((".csv",), lambda table, _, __: to_csv(table)))
FORMATS.add("markdown", Format((".md", ".markdown"), lambda table, _, __: to_markdown(table)))
FORMATS.add("latex", Format((".tex",), lambda table, _, __: to_latex(table)))
