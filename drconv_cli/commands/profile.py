"""`drconv profile`: times against nn.Conv2d and against the naive way."""

from typing import Annotated

import typer

from drconv_cli.options import (
    BackendOpt,
    CheckpointOpt,
    ConvertOpt,
    DeviceOpt,
    ForceOpt,
    FormatOpt,
    InputOpt,
    JsonOpt,
    ModelArg,
    OutputOpt,
    SeedOpt,
    SizeOpt,
    asked_size,
)
from drconv_cli.output import Destination, emit, envelope, progress
from drconv_cli.target import open_target

__all__ = ["profile"]


def profile(
    model: ModelArg = None,
    checkpoint: CheckpointOpt = None,
    convert: ConvertOpt = None,
    size: SizeOpt = None,
    input: InputOpt = None,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Images per call.")] = 1,
    backend: BackendOpt = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Timed calls of each candidate.")] = 20,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Calls before those.")] = 3,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, max=4096, help="CPU threads.", show_default=False)
    ] = None,
    seed: SeedOpt = 0,
    device: DeviceOpt = "auto",
    format: FormatOpt = None,
    as_json: JsonOpt = False,
    output: OutputOpt = None,
    force: ForceOpt = False,
) -> None:
    """Time every dynamic layer, and the network, against nn.Conv2d and against computing all filters.

    Candidates are called in turn in every round, in eval mode, on a batch of noise. Each must first agree with the
    reference on the inputs that the layer gets.
    """
    asked = asked_size(size, input)
    destination = Destination.of(format, as_json, output, force)
    import torch

    from drconv.analysis import model_errors, profile_model

    if threads is not None:
        torch.set_num_threads(threads)
    target = open_target(model, checkpoint, device, seed, convert)
    shape = asked or target.input_size
    like = next(target.model.parameters(), torch.empty(0))
    with model_errors(target.model, (batch_size, *shape)):
        noise = torch.randn(batch_size, *shape, generator=torch.Generator().manual_seed(seed))
        images = noise.to(target.device, like.dtype)
    with progress() as step:
        report = profile_model(target.model, images, backends=backend, rounds=rounds, warmup=warmup, progress=step)
    arguments = {**target.arguments, "input_shape": list(images.shape), "backends": backend, "rounds": rounds}
    arguments |= {"warmup": warmup, "threads": threads}
    emit(report, envelope("profile", arguments, report.environment, report), destination)
