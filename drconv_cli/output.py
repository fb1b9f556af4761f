"""The only place that prints or writes: data to stdout or a file, everything else to stderr."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from drconv.errors import FileError
from drconv.report import Report
from drconv.version import __version__
from drconv_cli.render import FORMATS

__all__ = ["SCHEMA", "Destination", "check_free", "emit", "envelope", "notice", "progress", "write_file"]

SCHEMA = 1
"""Version of the JSON envelope; a key that changes meaning or goes away raises it."""


@dataclass(frozen=True)
class Destination:
    """Where a command's data goes, and in which format."""

    format: str
    path: Path | None = None
    force: bool = False

    @classmethod
    def of(cls, format: str | None, as_json: bool, output: Path | None, force: bool) -> "Destination":
        """Settle --format, --json, --output and --force; what contradicts itself is a usage error."""
        if as_json and format not in (None, "json"):
            raise typer.BadParameter(f"--json and --format {format} contradict each other; give one of them")
        chosen = "json" if as_json else format
        if chosen is None and output is not None:
            chosen = next((name for name, f in FORMATS.items() if output.suffix.lower() in f.suffixes), None)
            if chosen is None:
                known = ", ".join(s for f in FORMATS.values() for s in f.suffixes)
                raise typer.BadParameter(f"cannot tell the format of {output}; use --format, or one of {known}")
        destination = cls(chosen or "table", output, force)
        if output is not None:
            check_free([output], force)
        return destination


def envelope(
    command: str,
    arguments: dict[str, Any],
    environment: dict[str, Any],
    report: Report,
    warnings: list[str] | None = None,
) -> dict[str, Any]:
    """Return what `--json` prints: the same keys for every command."""
    return {
        "schema": SCHEMA,
        "command": command,
        "version": __version__,
        "environment": environment,
        "arguments": {k: str(v) if isinstance(v, Path) else v for k, v in arguments.items()},
        "result": report.to_dict(),
        "warnings": warnings or [],
    }


def emit(report: Report, data: dict[str, Any], destination: Destination) -> None:
    """Render a report and print it, or write it to its file."""
    terminal = destination.path is None and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else None
    text = FORMATS[destination.format].render(report.to_table(), data, width)
    if destination.path is None:
        sys.stdout.write(text)
    else:
        write_file(destination.path, text.encode(), destination.force)
        notice(f"wrote {destination.path}")


def notice(text: str) -> None:
    """Say something to the person at the terminal."""
    typer.echo(text, err=True)


def check_free(paths: list[Path], force: bool) -> None:
    """Raise before any work is done if a file is in the way.

    Raises:
        FileError: a path is a directory, or exists and `force` is off.
    """
    for path in paths:
        if path.is_dir():
            raise FileError(f"cannot write {path}: it is a directory; give the name of a file")
        if path.exists() and not force:
            raise FileError(f"{path} exists and is kept; use --force to replace it, or another name")


def write_file(path: Path, data: bytes, force: bool) -> None:
    """Write a file whole or not at all, making its directory if there is none.

    Raises:
        FileError: the file exists and `force` is off, or it cannot be written.
    """
    check_free([path], force)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        # mkstemp makes files private; a result is readable as any other new file.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on a terminal's stderr; yields a function to call with (name of the step, steps done, steps)."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda name, done, total: bar.update(task, description=name, completed=done, total=total)
