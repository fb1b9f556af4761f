"""The only place that prints or writes: data to stdout or a file, everything else to stderr."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from drconv.errors import FileError
from drconv.report import Report
from drconv.version import __version__
from drconv_cli.printable import printable
from drconv_cli.render import FORMATS

__all__ = [
    "SCHEMA",
    "Destination",
    "check_free",
    "emit",
    "emit_text",
    "envelope",
    "notice",
    "progress",
    "read_json",
    "readable_name",
    "stdout_for_data",
    "write_file",
]

SCHEMA = 1
"""Version of the JSON envelope; a key that changes meaning or goes away raises it."""

_ONE_TABLE = ("json", "csv")
"""Formats that are read by programs, and hold one thing."""

_stdout: ContextVar[TextIO | None] = ContextVar("_stdout")


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


@contextmanager
def stdout_for_data() -> Iterator[None]:
    """Keep stdout for `emit`: whatever else is printed meanwhile, as by a user's model, goes to stderr."""
    token = _stdout.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _stdout.reset(token)


def emit(report: Report, data: dict[str, Any], destination: Destination, *more: Report) -> None:
    """Render a report and print it, or write it to its file.

    Args:
        report: what is shown first, and what `data` holds.
        data: for JSON.
        destination: where to, in which format.
        more: reports whose tables follow, in formats that are read by people.

    Raises:
        FileError: stdout is closed or full, or the file cannot be written.
    """
    stream = _stdout.get(sys.stdout)
    terminal = destination.path is None and stream is not None and stream.isatty()
    width = shutil.get_terminal_size().columns if terminal else None
    shown = [report] if destination.format in _ONE_TABLE else [report, *more]
    render = FORMATS[destination.format].render
    emit_text("\n".join(render(each.to_table(), data, width) for each in shown), destination)


def emit_text(text: str, destination: Destination) -> None:
    """Print a text as it is, or write it to its file.

    Raises:
        FileError: stdout is closed or full, or the file cannot be written.
    """
    stream = _stdout.get(sys.stdout)
    if destination.path is not None:
        write_file(destination.path, text.encode(errors="replace"), destination.force)
        notice(f"wrote {destination.path}")
        return
    if stream is None:
        raise FileError("cannot write to stdout: it is closed; use --output FILE")
    try:
        stream.write(_encodable(text, stream.encoding))
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FileError(f"cannot write to stdout: {error.strerror or error}") from error


def _encodable(text: str, encoding: str | None) -> str:
    """Return the text with what an encoding lacks replaced; the rules of tables become hyphens."""
    encoding = encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.replace("─", "-").encode(encoding, "replace").decode(encoding)
    return text


def readable_name(path: Path) -> str:
    """Return a file's name as text that any renderer takes, whatever bytes it is made of."""
    name = os.fsencode(path.name).decode(errors="replace")
    return "".join(letter if letter.isprintable() else "�" for letter in name)


def notice(text: str) -> None:
    """Say something to the person at the terminal."""
    typer.echo(printable(text, but="\n"), err=True)


def check_free(paths: list[Path], force: bool) -> None:
    """Raise before any work is done if a file could not be written.

    Raises:
        FileError: a path exists and `force` is off, is no regular file, or lies where nothing can be written.
    """
    for path in paths:
        try:
            if path.is_dir():
                raise FileError(f"cannot write {path}: it is a directory; give the name of a file")
            if path.exists() or path.is_symlink():
                if not path.is_file():
                    raise FileError(f"cannot write {path}: it is no regular file; leave --output out for stdout")
                if not force:
                    raise FileError(f"{path} exists and is kept; use --force to replace it, or another name")
            folder = next(parent for parent in path.absolute().parents if parent.exists())
        except OSError as error:
            raise FileError(f"cannot write {path}: {error.strerror or error}") from error
        if not folder.is_dir():
            raise FileError(f"cannot write {path}: {folder} is no directory")
        if not os.access(folder, os.W_OK):
            raise FileError(f"cannot write {path}: permission denied in {folder}")


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        FileError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise FileError(f"cannot read {path}: it is no JSON ({error})") from error


def write_file(path: Path, data: bytes, force: bool) -> None:
    """Write a file whole or not at all, making its directory if there is none.

    Raises:
        FileError: the file exists and `force` is off, or it cannot be written.
    """
    check_free([path], force)
    target = path.resolve()  # a link is kept, and what it leads to is replaced
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".drconv-")
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
        temporary.replace(target)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on a terminal's stderr; yields a function to call with (name of the step, steps done, steps)."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda name, done, total: bar.update(task, description=name, completed=done, total=total)
