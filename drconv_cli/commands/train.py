"""`drconv train`: train a classifier, and write weights that every command can load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from drconv.errors import ArgumentError, StoppedError, TrainingError
from drconv_cli.options import DEFAULT, NETWORK_HELP, ConvertOpt, DeviceOpt, ForceOpt, FormatOpt, JsonOpt, apart
from drconv_cli.output import Destination, emit, envelope, notice, progress
from drconv_cli.stopping import stop_on_signals
from drconv_cli.trained import check_run, describe_model, draw_curves, parse_settings, plan_of, say_epoch, start_anew

if TYPE_CHECKING:
    from drconv.training import Trainer, TrainingOptions

__all__ = ["train"]

DATA_HELP = (
    "mosaic (built-in images whose regions are known), mosaic+photos (the same with textures of photos), a folder with "
    "a folder of images for each class, or hf:NAME (a data set of the Hugging Face hub)."
)
DOWNLOAD_HELP = "Let hf:NAME be fetched if it is not here yet; nothing else uses the network."
WORKERS_HELP = "Processes that load images beside this one; the images are the same."


def train(
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP, show_default=False)],
    model: Annotated[str | None, typer.Option("--model", "-m", help=NETWORK_HELP, show_default=DEFAULT)] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Argument of the model, as in num_regions=4; repeatable.",
            show_default=False,
        ),
    ] = None,
    convert: ConvertOpt = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for checkpoint, weights, log and curves.")
    ] = Path("drconv-run"),
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from the checkpoint in the folder of --output; start if there is none."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Read the data, build the model, say what would be done, and write nothing."),
    ] = False,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="Settings of shufflenet, dyconv_mobilenet_v2, dyconv_mobilenet_v3 or dyconv_resnet, in place of the "
            "defaults below; options given beside it win.",
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Passes over the training images.", show_default="20")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, help="Images per step, of all processes together.", show_default="64"),
    ] = None,
    image_size: Annotated[int, typer.Option("--image-size", min=8, help="Side of the images, in pixels.")] = 64,
    optimizer: Annotated[
        Literal["adamw", "sgd"] | None,
        typer.Option("--optimizer", help="Rule by which gradients change the weights.", show_default="adamw"),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option("--lr", help="Largest learning rate; not scaled with the batch.", show_default="0.002"),
    ] = None,
    momentum: Annotated[
        float | None, typer.Option("--momentum", help="Momentum, with --optimizer sgd.", show_default="0.9")
    ] = None,
    nesterov: Annotated[
        bool | None, typer.Option("--nesterov/--no-nesterov", help="Whether SGD looks ahead.", show_default="on")
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option("--weight-decay", help="Decay of all weights but norms and biases.", show_default="0.02"),
    ] = None,
    schedule: Annotated[
        Literal["cosine", "linear", "step", "constant"] | None,
        typer.Option(
            "--schedule",
            help="How the learning rate goes on after the warm-up: to 0, by x0.1 after epochs 30, 60 and 90, or not.",
            show_default="cosine",
        ),
    ] = None,
    warmup: Annotated[
        int | None, typer.Option("--warmup", min=0, help="Steps in which the learning rate rises.", show_default="200")
    ] = None,
    label_smoothing: Annotated[
        float | None,
        typer.Option("--label-smoothing", help="Share of the target that all classes get alike.", show_default="0"),
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(
            "--ema",
            help="Validate and save a running average of the weights, with this decay, such as 0.999.",
            show_default="none",
        ),
    ] = None,
    clip: Annotated[
        float | None, typer.Option("--clip", help="Largest norm of all gradients; 0 is none.", show_default="5")
    ] = None,
    precision: Annotated[
        Literal["float32", "bfloat16", "float16", "float64"] | None,
        typer.Option(
            "--precision", help="Of numbers; bfloat16 and, on CUDA, float16 are mixed.", show_default="float32"
        ),
    ] = None,
    freeze_norm: Annotated[
        bool | None,
        typer.Option(
            "--freeze-norm",
            help="Use the running statistics of BatchNorm, and keep them as they are.",
            show_default="off",
        ),
    ] = None,
    temperature: Annotated[
        str | None,
        typer.Option(
            "--temperature",
            metavar="FIRST:LAST[:EPOCHS]",
            help="Temperature of DyConv's attention, and in how many epochs it falls.",
            show_default="30:1, in 10 epochs or half of all",
        ),
    ] = None,
    guide_supervision: Annotated[
        float | None,
        typer.Option(
            "--guide-supervision",
            metavar="WEIGHT",
            help="Weight of a loss on the guides against true region maps (mosaic). Not in the papers.",
            show_default="0",
        ),
    ] = None,
    augment: Annotated[
        Literal["none", "light", "standard"] | None,
        typer.Option(
            "--augment",
            help="How much training images are cut, mirrored and recoloured.",
            show_default="standard; mosaics none",
        ),
    ] = None,
    train_size: Annotated[
        int | None,
        typer.Option("--train-size", min=1, help="Take so many training images.", show_default="all; 12000 mosaics"),
    ] = None,
    validation_size: Annotated[
        int | None,
        typer.Option(
            "--validation-size", min=1, help="Take so many validation images.", show_default="all; 1000 mosaics"
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of weights, order and training images.")
    ] = 0,
    workers: Annotated[int, typer.Option("--workers", min=0, help=WORKERS_HELP)] = 0,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            "--checkpoint-every",
            metavar="STEPS",
            min=1,
            help="Write the checkpoint also inside an epoch, after so many steps.",
            show_default="after each epoch",
        ),
    ] = None,
    save_dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option("--save-dtype", help="Type of the numbers in weights.safetensors.")
    ] = "float32",
    download: Annotated[bool, typer.Option("--download", help=DOWNLOAD_HELP)] = False,
    device: DeviceOpt = "auto",
    format: FormatOpt = None,
    as_json: JsonOpt = False,
    force: ForceOpt = False,
) -> None:
    """Train a classifier from random weights.

    Writes weights.safetensors, which knows its model, checkpoint.safetensors, log.jsonl and curves.png. SIGTERM and
    Ctrl-C finish the step and keep everything; --resume goes on, on a CPU bit for bit. Under torchrun the processes
    train together.
    """
    destination = Destination.of(format, as_json, None, force)
    apart("--dry-run", dry_run, {"--resume": resume, "--checkpoint-every": checkpoint_every})
    apart("--resume", resume, {"--force": force})
    keywords = parse_settings(settings)
    span = _parse_temperature(temperature)
    from drconv.training import RunFiles, TrainingOptions, join_team

    options = TrainingOptions.of(
        recipe, epochs=epochs, batch_size=batch_size, optimizer=optimizer, lr=lr, momentum=momentum, nesterov=nesterov,
        weight_decay=weight_decay, schedule=schedule, warmup_steps=warmup, label_smoothing=label_smoothing, ema=ema,
        clip=clip, precision=precision, freeze_norm=freeze_norm, guide_supervision=guide_supervision, augment=augment,
        seed=seed, **span,
    )  # fmt: skip
    from drconv.training.data import check_data

    check_data(data)
    files = RunFiles(output)
    if not dry_run:
        check_run(files, resume, force)
    # Only now: no process writes before all have looked.
    with join_team(device) as team:
        from drconv.analysis import environment
        from drconv.training import run_training
        from drconv.training.data import load_data

        loaded = load_data(
            data, image_size=image_size, seed=seed, augment=augment, train_size=train_size,
            validation_size=validation_size, allow_download=download,
        )  # fmt: skip
        if model is None and team.leads:
            from drconv.models import DEFAULT_MODEL

            notice(f"no model named: using {DEFAULT_MODEL}")
        if loaded.num_classes < 2:
            raise ArgumentError(f"{data} has one class, {loaded.class_names[0]}; a classifier needs at least two")
        description = describe_model(model, keywords, convert, image_size, loaded.class_names)
        trainer = _trainer(description, convert or (), loaded, options, team, workers)
        steps = options.epochs * trainer.steps_per_epoch
        if team.leads and options.warmup_steps >= steps:
            notice(f"the {steps} steps are over before the warm-up of {options.warmup_steps}; --warmup shortens it")
        arguments = {
            "data": data, "model": description.model, "set": keywords, "convert": convert or [], "output": output,
            "recipe": recipe, **options.to_dict(), "image_size": image_size, "workers": workers, "resume": resume,
            "checkpoint_every": checkpoint_every, "save_dtype": save_dtype, "device": str(team.device),
        }  # fmt: skip
        if dry_run:
            plan = plan_of(trainer, description, loaded.augment)
            if team.leads:
                emit(plan, envelope("train", arguments, environment(team.device), plan), destination)
            return
        if team.leads and not resume:
            start_anew(files)
        title = f"{description.model} on {loaded.name}"
        try:
            with stop_on_signals(team.leads) as should_stop, progress() as step:
                report = run_training(
                    trainer,
                    description,
                    files,
                    resume=resume,
                    checkpoint_every=checkpoint_every,
                    save_dtype=save_dtype,
                    should_stop=should_stop,
                    progress=step if team.leads else _ignore,
                    on_epoch=lambda record: say_epoch(record, options.epochs),
                    notice=notice,
                )
        except (StoppedError, TrainingError) as error:
            # Raised in every process, and said by one.
            if not team.leads:
                raise typer.Exit(1) from error
            draw_curves(trainer.history, files, title)
            raise
        if team.leads:
            draw_curves(report.history, files, title)
            emit(report, envelope("train", arguments, environment(team.device), report), destination)
            notice(f"wrote {files.weights}, {files.log.name}, {files.curves.name} and {files.checkpoint.name}")


def _trainer(
    description: Any, conversions: Sequence[str], data: Any, options: TrainingOptions, team: Any, workers: int
) -> Trainer:
    """Build the model with the weights that its seed gives, say what --convert did, and return what trains it."""
    import torch

    from drconv.models import build_described
    from drconv.training import Trainer

    torch.manual_seed(options.seed)
    reports: list[Any] = []
    model = build_described(description, reports.append)
    if team.leads:
        for text, report in zip(conversions, reports, strict=True):
            notice(f"--convert {text!r}: {report.summary}")
    return Trainer(model, data, options, team=team, workers=workers)


def _parse_temperature(text: str | None) -> dict[str, Any]:
    """Read `FIRST:LAST[:EPOCHS]`.

    Raises:
        typer.BadParameter: the text is not in that form.
    """
    if text is None:
        return {}
    parts = text.split(":")
    try:
        first, last = float(parts[0]), float(parts[1])
        epochs = int(parts[2]) if len(parts) > 2 else None
    except (ValueError, IndexError):
        first, last, epochs = 0.0, 0.0, None
    if not (0 < first < float("inf") and 0 < last < float("inf")) or len(parts) > 3 or (epochs or 1) < 1:
        raise typer.BadParameter(f"--temperature must be FIRST:LAST[:EPOCHS], such as 30:1:10, got {text!r}")
    return {"temperature": (first, last), "temperature_epochs": epochs}


def _ignore(name: str, done: int, total: int) -> None:
    """Show nothing."""
