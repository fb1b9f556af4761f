"""`drconv evaluate`: the accuracy of weights on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drconv.errors import ArgumentError, CheckpointError
from drconv_cli.commands.train import DATA_HELP, DOWNLOAD_HELP, WORKERS_HELP
from drconv_cli.options import NETWORK_HELP, ConvertOpt, DeviceOpt, ForceOpt, FormatOpt, JsonOpt, OutputOpt
from drconv_cli.output import Destination, emit, envelope, progress
from drconv_cli.target import open_target

if TYPE_CHECKING:
    from drconv.models import ModelDescription

__all__ = ["evaluate"]


def evaluate(
    weights: Annotated[
        Path,
        typer.Argument(
            metavar="WEIGHTS",
            help="weights.safetensors of `drconv train`; with --model also other safetensors or a torch file.",
            show_default=False,
        ),
    ],
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP, show_default=False)],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help=NETWORK_HELP, show_default="what WEIGHTS says")
    ] = None,
    convert: ConvertOpt = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="Also a table with a row for each class.")] = False,
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", min=8, help="Side of the images, in pixels.", show_default="as trained"),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images at once, per process.")] = 64,
    validation_size: Annotated[
        int | None,
        typer.Option(
            "--validation-size", min=1, help="Take so many validation images.", show_default="all; 1000 mosaics"
        ),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=0, help=WORKERS_HELP)] = 0,
    download: Annotated[bool, typer.Option("--download", help=DOWNLOAD_HELP)] = False,
    device: DeviceOpt = "auto",
    format: FormatOpt = None,
    as_json: JsonOpt = False,
    output: OutputOpt = None,
    force: ForceOpt = False,
) -> None:
    """Classify the validation images of DATA: top-1, top-5, and their 95 % intervals.

    Also says how the layers with regions use them. Under torchrun the processes share the images.
    """
    destination = Destination.of(format, as_json, output, force)
    from drconv.analysis import environment
    from drconv.models import read_description
    from drconv.training import ClassAccuracies, evaluation_report, join_team, validate
    from drconv.training.data import load_data

    with join_team(device) as team:
        description = read_description(weights)
        _check_named(weights, model, description)
        target = open_target(model, weights, str(team.device), convert=convert)
        # Also where --model names another model than they say.
        trained_size = target.input_size if description is None else description.input_size
        side = image_size or trained_size[1]
        loaded = load_data(data, image_size=side, seed=0, validation_size=validation_size, allow_download=download)
        _check_classes(weights, description, loaded)
        with progress() as step:
            tally = validate(
                target.model,
                loaded.validation,
                loaded.num_classes,
                team=team,
                batch_size=batch_size,
                workers=workers,
                progress=step if team.leads else None,
            )
        if tally is None or not team.leads:
            return
        report = evaluation_report(
            tally, model=target.title, weights=target.weights, data=loaded.name, class_names=loaded.class_names
        )
        arguments = {**target.arguments, "data": data, "image_size": side, "batch_size": batch_size}
        arguments |= {"validation_size": validation_size, "workers": workers}
        shown = envelope("evaluate", arguments, environment(team.device), report)
        emit(report, shown, destination, *([ClassAccuracies(report)] if per_class else []))


def _check_named(weights: Path, model: str | None, description: ModelDescription | None) -> None:
    """Raise where only a user's code can build the model.

    Raises:
        CheckpointError: --model has to name it.
    """
    if model is None and description is not None and description.runs_code:
        raise CheckpointError(
            f"{weights} is for {description.model}, and a file of weights runs no code; name it yourself: "
            f"--model {description.model}"
        )


def _check_classes(weights: Path, description: ModelDescription | None, data: Any) -> None:
    """Raise where the outputs of a model mean other classes than the data's.

    Raises:
        ArgumentError: they do.
    """
    names = () if description is None else description.class_names
    if names and tuple(data.class_names) != names:
        differing = [(a, b) for a, b in zip(names, data.class_names, strict=False) if a != b]
        first = f", first {differing[0][0]!r} and {differing[0][1]!r}" if differing else ""
        raise ArgumentError(
            f"{weights} was trained for {len(names)} classes and {data.name} has {len(data.class_names)} others{first}"
            "; evaluate it on data with the classes that it was trained for"
        )
