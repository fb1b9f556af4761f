"""`drconv schema`: the JSON Schema of what a command prints with --json."""

from importlib.resources import files
from typing import Annotated

import typer

from drconv.registry import unknown_name
from drconv_cli.options import ForceOpt, JsonOpt, OutputOpt
from drconv_cli.output import Destination, emit_text

__all__ = ["schema"]


def schema(
    command: Annotated[str, typer.Argument(metavar="COMMAND", help="One of: evaluate, flops, profile, train.")],
    as_json: JsonOpt = False,
    output: OutputOpt = None,
    force: ForceOpt = False,
) -> None:
    """Print the JSON Schema of a command's --json output."""
    destination = Destination.of("json", as_json, output, force)
    found = files("drconv_cli.schemas").iterdir()
    published = {path.name.removesuffix(".json"): path for path in found if path.name.endswith(".json")}
    if command not in published:
        raise unknown_name("schema", command, sorted(published))
    emit_text(published[command].read_text(), destination)
