"""What `drconv train` trains, on what and how, from its options."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from drconv.errors import ArgumentError, FileError
from drconv_cli.conversion import parse_conversion, parse_value
from drconv_cli.output import check_free, notice, write_file
from drconv_cli.printable import printable

if TYPE_CHECKING:
    from drconv.models import ModelDescription
    from drconv.training import RunFiles, Trainer, TrainingPlan

__all__ = ["check_run", "describe_model", "draw_curves", "parse_settings", "plan_of", "say_epoch", "start_anew"]


def parse_settings(texts: Sequence[str] | None) -> dict[str, Any]:
    """Read `KEY=VALUE`, keywords of a model.

    Raises:
        typer.BadParameter: a text is not in that form, or a keyword comes twice or is the command's own.
    """
    found: dict[str, Any] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip().isidentifier() or not value.strip():
            raise typer.BadParameter(f"--set must be KEY=VALUE, such as num_regions=4, got {text!r}")
        key = key.strip()
        if key in found or key == "num_classes":
            why = "twice" if key in found else "num_classes, which comes from the data"
            raise typer.BadParameter(f"--set has {why}, got {text!r}")
        found[key] = parse_value(value.strip())
    return found


def describe_model(
    name: str | None,
    settings: dict[str, Any],
    conversions: Sequence[str] | None,
    image_size: int,
    class_names: Sequence[str],
) -> ModelDescription:
    """Return the description of a model for some classes.

    Raises:
        ArgumentError: the name is a file of weights.
    """
    from drconv.models import DEFAULT_MODEL, ConvertedLayers, ModelDescription, is_weights_file

    if name is not None and is_weights_file(name):
        raise ArgumentError(f"training starts from random weights, and {name} has weights; name its model")
    parsed = [parse_conversion(text) for text in conversions or ()]
    return ModelDescription(
        DEFAULT_MODEL if name is None else name,
        {"num_classes": len(class_names), **settings},
        tuple(ConvertedLayers(c.layer, c.where, dict(c.keywords)) for c in parsed),
        (3, image_size, image_size),
        tuple(class_names),
    )


def check_run(files: RunFiles, resume: bool, force: bool) -> None:
    """Raise before any work is done if the run's files could not be written.

    Raises:
        FileError: one exists, and is neither to be gone on from nor replaced, or cannot be written.
    """
    if not (force or resume):
        for path in files.all:
            if path.is_file():
                raise FileError(
                    f"{path} exists and is kept; use --resume to go on, --force to start anew, or another --output"
                )
    check_free(files.all, force or resume)
    if resume and files.weights.exists() and not files.checkpoint.exists():
        raise FileError(
            f"{files.weights} exists and is kept, and there is no {files.checkpoint.name} beside it to go on from; "
            "use --force in place of --resume to start anew, or another --output"
        )


def start_anew(files: RunFiles) -> None:
    """Take away what an older run left, so that nobody goes on from it by mistake."""
    for path in (files.checkpoint, files.weights):
        path.unlink(missing_ok=True)


def plan_of(trainer: Trainer, description: ModelDescription, augment: str) -> TrainingPlan:
    """Return what would be trained, for --dry-run; `augment` is how the data augment the training images."""
    from drconv.training import TrainingPlan

    data, options = trainer.data, trainer.options
    facts = {
        "training images": len(data.train),
        "validation images": len(data.validation),
        "classes": data.num_classes,
        "true region maps": data.has_region_maps,
        "image size": list(description.input_size),
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "steps per epoch": trainer.steps_per_epoch,
        "steps": trainer.steps_per_epoch * options.epochs,
        "processes": trainer.team.count,
        "device": str(trainer.team.device),
        **{name.replace("_", " "): value for name, value in _in_effect(trainer, augment).items()},
    }
    return TrainingPlan(description.model, data.name, facts)


def _in_effect(trainer: Trainer, augment: str) -> dict[str, Any]:
    """Return the options that this training makes use of, with what stands for those left open."""
    options = trainer.options
    idle: tuple[str, ...] = () if options.optimizer == "sgd" else ("momentum", "nesterov")
    idle += () if options.schedule == "step" else ("milestones", "step_factor")
    idle += () if trainer.temperature is not None else ("temperature", "temperature_epochs")
    settled = options.to_dict() | {"augment": augment, "temperature_epochs": options.temperature_span}
    return {name: value for name, value in settled.items() if name not in idle}


def say_epoch(record: dict[str, Any], epochs: int) -> None:
    """Say on stderr what an epoch gave."""
    trained, found = record["train"], record["validation"]
    losses = [("not finite" if part["loss"] is None else f"{part['loss']:.3f}") for part in (trained, found)]
    text = f"epoch {record['epoch']} of {epochs}: loss {losses[0]}, validation {losses[1]}, top-1 {found['top1']:.1%}"
    if record["regions"]:
        dead = [len(layer["dead"]) for layer in record["regions"]]
        even = sum(layer["effective_regions"] for layer in record["regions"]) / len(dead)
        text += f", {even:.1f} regions in use per layer"
        text += f", {sum(dead)} dead in {sum(map(bool, dead))} of {len(dead)} layers" if any(dead) else ", none dead"
    notice(text)


def draw_curves(history: Sequence[dict[str, Any]], files: RunFiles, title: str) -> None:
    """Draw the log, if it has an epoch; what keeps it from being drawn is said, and nothing else hangs on it."""
    if not history:
        return
    from drconv.viz import curves_figure

    data = BytesIO()
    curves_figure(history, title=printable(title)).savefig(data, format="png")
    try:
        write_file(Path(files.curves), data.getvalue(), force=True)
    except FileError as error:
        notice(str(error))
