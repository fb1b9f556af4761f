"""`drconv flops`: multiply-adds and parameters."""

from drconv_cli.options import (
    CheckpointOpt,
    DeviceOpt,
    ForceOpt,
    FormatOpt,
    InputOpt,
    JsonOpt,
    ModelArg,
    OutputOpt,
    SizeOpt,
    input_size,
)
from drconv_cli.output import Destination, emit, envelope
from drconv_cli.target import open_target

__all__ = ["flops"]


def flops(
    model: ModelArg = None,
    checkpoint: CheckpointOpt = None,
    size: SizeOpt = None,
    input: InputOpt = None,
    device: DeviceOpt = "auto",
    format: FormatOpt = None,
    as_json: JsonOpt = False,
    output: OutputOpt = None,
    force: ForceOpt = False,
) -> None:
    """Count multiply-adds and parameters per image, layer by layer.

    Dynamic layers are split into their stages (pool, generator, guide, convolution). Multiply-adds are those of
    convolutions and linear layers, as in the papers.
    """
    shape = input_size(size, input)
    destination = Destination.of(format, as_json, output, force)
    from drconv.analysis import count_flops, environment

    target = open_target(model, checkpoint, device)
    report = count_flops(target.model, shape)
    arguments = {**target.arguments, "input_size": list(shape)}
    emit(report, envelope("flops", arguments, environment(target.device), report), destination)
