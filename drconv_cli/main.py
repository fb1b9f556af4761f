"""The app: registers every command by name, and turns our errors into one line."""

import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from drconv.errors import DrconvError
from drconv.version import __version__
from drconv_cli.commands.compare import compare
from drconv_cli.commands.env import env
from drconv_cli.commands.evaluate import evaluate
from drconv_cli.commands.flops import flops
from drconv_cli.commands.models import models
from drconv_cli.commands.profile import profile
from drconv_cli.commands.schema import schema
from drconv_cli.commands.train import train
from drconv_cli.commands.visualize import visualize
from drconv_cli.output import notice, stdout_for_data

__all__ = ["app", "main"]


_THRESHOLDS = (50_000, 5, 10)
"""Of the collector of cyclic garbage, which still runs: many images must not pile up."""


class _Group(TyperGroup):
    """Turns an error of ours into one line and exit code 1, unless its traceback was asked for."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except DrconvError as error:
            if ctx.params.get("verbose"):
                raise
            notice(f"drconv: error: {' '.join(str(error).split())}")
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Dynamic region-aware convolution: count it, time it, train it, draw its regions.",
)


def _with_stdout_for_data(command: Callable[..., None]) -> Callable[..., None]:
    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        with stdout_for_data():
            command(*args, **kwargs)

    return run


for _command in (flops, profile, visualize, compare, train, evaluate, models, env, schema):
    app.command()(_with_stdout_for_data(_command))


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"drconv {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Hold the options that come before a command."""


class _EndedError(BaseException):
    """SIGTERM has come. No SystemExit, which is also what a user's model may raise, and then is an error of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _end(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does: what is half written goes away, which the system's own way of ending would leave."""
    raise _EndedError(number)


def main() -> None:
    """Run the command line: exit code 0 for done, 1 for an error of ours in one line, 2 for wrong usage."""
    # torch alone makes some hundred thousand objects that stay until the end: to look through them again and again
    # while more are imported, and once more at exit, takes a quarter of a short command's time.
    gc.set_threshold(*_THRESHOLDS)
    # matplotlib says so of names of files and data in other scripts, and draws a box in place of the letter.
    warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
    before = signal.signal(signal.SIGTERM, _end)
    try:
        app()
    except _EndedError as error:
        sys.exit(128 + error.number)
    except BrokenPipeError:
        # The reader has gone; what is left in the buffer must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    finally:
        signal.signal(signal.SIGTERM, before)
        gc.freeze()
