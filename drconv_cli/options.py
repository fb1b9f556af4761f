"""Options and arguments that commands share, and the parsing of sizes."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from drconv.registry import unknown_name
from drconv_cli.conversion import parse_conversion
from drconv_cli.output import check_free
from drconv_cli.render import FORMATS

__all__ = [
    "DEFAULT",
    "MODEL_HELP",
    "NETWORK_HELP",
    "BackendOpt",
    "CheckpointOpt",
    "ConvertOpt",
    "CountingDeviceOpt",
    "DeviceOpt",
    "ForceOpt",
    "FormatOpt",
    "InputOpt",
    "JsonOpt",
    "ModelArg",
    "OutputOpt",
    "RegionModelOpt",
    "SeedOpt",
    "SizeOpt",
    "apart",
    "asked_size",
    "check_pictures",
    "comma_list",
    "parse_share",
]


def _known_format(value: str | None) -> str | None:
    if value is not None and value not in FORMATS:
        raise typer.BadParameter(str(unknown_name("format", value, FORMATS)))
    return value


def _checked_conversions(value: list[str] | None) -> list[str] | None:
    for text in value or ():
        parse_conversion(text)
    return value


NETWORK_HELP = (
    "A name from `drconv models`, timm:NAME, torchvision:NAME, package.module:factory, or path/file.py:factory (whose "
    "code is run)."
)
MODEL_HELP = NETWORK_HELP.replace(
    "timm:", "demo (trained weights that ship with drconv), weights.safetensors of `drconv train`, timm:", 1
)
DEFAULT = "drconv_shufflenet_v2_x0_5"
"""What help calls the default model; `drconv.models.DEFAULT_MODEL` is it, and would import torch."""

ModelArg = Annotated[str | None, typer.Argument(metavar="MODEL", help=MODEL_HELP, show_default=DEFAULT)]
RegionModelOpt = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help=MODEL_HELP,
        show_default=f"demo; {DEFAULT} with --convert, or with weights that do not say their model",
    ),
]
CheckpointOpt = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        help="Weights for the model: safetensors, or a torch file of tensors only.",
        show_default=False,
    ),
]
ConvertOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--convert",
        metavar="[PATTERN=]LAYER[:KEY=VALUE,...]",
        help="Replace convolutions, as in 'stage4@3x3=drconv2d:num_regions=4'; repeatable.",
        callback=_checked_conversions,
        show_default=False,
    ),
]
SizeOpt = Annotated[
    str | None, typer.Option("--size", metavar="H[xW]", help="Image size, in pixels.", show_default="the model's")
]
InputOpt = Annotated[
    str | None,
    typer.Option(
        "--input", metavar="CxHxW", help="Input of a network that does not take 3 channels; instead of --size."
    ),
]
DeviceOpt = Annotated[
    str,
    typer.Option("--device", metavar="auto|cpu|cuda[:i]|mps", help="Where to run; auto is a GPU if there is one."),
]
CountingDeviceOpt = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda[:i]|mps|meta",
        help="Where to run; auto is a GPU if there is one, and meta counts without making weights.",
    ),
]
SeedOpt = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of all that is drawn at random.")]
BackendOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--backend",
        help="Backend to time beside conv2d and naive; repeatable.",
        show_default="those that a call would choose from",
    ),
]
FormatOpt = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="|".join(FORMATS),
        help="Format of the output.",
        callback=_known_format,
        show_default="table",
    ),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Short for --format json.")]
OutputOpt = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write here instead of stdout; the suffix gives the format.",
        show_default=False,
    ),
]
ForceOpt = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]


def comma_list(text: str | None) -> tuple[str, ...]:
    """Return the words of a list with commas; none without a text."""
    return tuple(word.strip() for word in text.split(",")) if text is not None else ()


def apart(option: str, given: object, others: Mapping[str, object]) -> None:
    """Raise for options that mean nothing together.

    Raises:
        typer.BadParameter: one of the others was given, too.
    """
    for name, value in others.items():
        if given and value not in (None, False, (), {}, []):
            raise typer.BadParameter(f"{option} and {name} do not go together; give one of them")


def check_pictures(plot: Path | None, output: Path | None, force: bool) -> None:
    """Check the value of --plot before any work is done.

    Raises:
        typer.BadParameter: it has no suffix of a picture, or is the file of --output.
        FileError: the file could not be written.
    """
    if plot is None:
        return
    if plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise typer.BadParameter(f"--plot must end in .png, .svg or .pdf, got {plot}")
    if output is not None and plot.resolve() == output.resolve():
        raise typer.BadParameter(f"--plot and --output are one file, {plot}; give two")
    check_free([plot], force)


def parse_share(option: str, text: str | None) -> float | None:
    """Return a percentage such as 5% or 2.5 as a fraction of 1.

    Raises:
        typer.BadParameter: it is no number above 0.
    """
    if text is None:
        return None
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        percent = 0.0
    if not 0 < percent < 1e6:
        raise typer.BadParameter(f"{option} must be a percentage above 0, such as 5%, got {text!r}")
    return percent / 100


def asked_size(size: str | None, input: str | None) -> tuple[int, int, int] | None:
    """Return (C, H, W) from --size and --input, None without them.

    Raises:
        typer.BadParameter: both were given, or one is not in its form, or a number is 0.
    """
    if size is not None and input is not None:
        raise typer.BadParameter("--size and --input contradict each other; give one of them")
    if input is not None:
        channels, height, width = _numbers("--input", input, r"(\d{1,9})x(\d{1,9})x(\d{1,9})", "CxHxW, such as 1x64x64")
        return channels, height, width
    if size is None:
        return None
    height, width = _numbers("--size", size, r"(\d{1,9})(?:x(\d{1,9}))?", "H or HxW, such as 224 or 224x320")
    return 3, height, width


def _numbers(option: str, text: str, form: str, example: str) -> list[int]:
    found = re.fullmatch(form, text)
    if found is None:
        raise typer.BadParameter(f"{option} must be {example}, got {text!r}")
    numbers = [int(n) for n in found.groups(default=found.group(1))]
    if min(numbers) < 1:
        raise typer.BadParameter(f"{option} must have no zero, got {text!r}")
    return numbers
