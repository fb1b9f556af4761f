"""`drconv compare`: how well the regions of two checkpoints, two layers or two images agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from drconv.errors import FileError
from drconv_cli.drawing import Drawing, Measured
from drconv_cli.images import IMAGE_SUFFIXES, is_directory
from drconv_cli.options import (
    CheckpointOpt,
    ConvertOpt,
    DeviceOpt,
    ForceOpt,
    FormatOpt,
    JsonOpt,
    RegionModelOpt,
    SeedOpt,
)
from drconv_cli.output import Destination, check_free, emit, envelope, notice, readable_name, write_file
from drconv_cli.region_model import RegionModel, open_region_model

if TYPE_CHECKING:
    from drconv.analysis import LayerComparison
    from drconv.viz import ComparisonRow

__all__ = ["compare"]

Kind = Literal["auto", "checkpoints", "layers", "images"]

_WEIGHTS = {".safetensors", ".pt", ".pth", ".bin", ".ckpt"}


def compare(
    first: Annotated[
        str, typer.Argument(metavar="A", help="A checkpoint, the name of a layer, or an image.", show_default=False)
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one of the same kind.", show_default=False)],
    image: Annotated[
        Path | None,
        typer.Option("--image", "-i", help="Photo to compare checkpoints or layers on.", show_default=False),
    ] = None,
    kind: Annotated[Kind, typer.Option("--of", help="What A and B are; auto tells by their names.")] = "auto",
    model: RegionModelOpt = None,
    checkpoint: CheckpointOpt = None,
    convert: ConvertOpt = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layers",
            metavar="NAME",
            help="Layer or pattern, for checkpoints and images; 'all' for all; repeatable.",
            show_default="the last layer at each map size",
        ),
    ] = None,
    size: Annotated[
        int, typer.Option("--size", min=1, max=100_000, help="Shorter side of the image after resizing, in pixels.")
    ] = 224,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture", help="Also draw both maps and where they differ (png, svg, pdf).", show_default=False
        ),
    ] = None,
    seed: SeedOpt = 0,
    device: DeviceOpt = "auto",
    format: FormatOpt = None,
    as_json: JsonOpt = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File for the table or JSON; the suffix gives the format.", show_default=False
        ),
    ] = None,
    force: ForceOpt = False,
) -> None:
    """Say on how many positions the regions of two checkpoints, two layers or two images agree.

    Two checkpoints or layers number their regions as it happens, so these are matched first, by the positions that they
    share. One layer has the same regions on two images.
    """
    destination = Destination.of(format, as_json, output, force)
    kind = _kind(first, second) if kind == "auto" else kind
    if (kind == "images") == (image is not None):
        words = "are images themselves" if kind == "images" else f"are {kind}, so a photo is needed: --image photo.jpg"
        raise typer.BadParameter(f"A and B {words}")
    if kind == "layers" and layers:
        raise typer.BadParameter("--layers is for checkpoints and images; A and B are the layers")
    if kind == "checkpoints" and checkpoint is not None:
        raise typer.BadParameter("--checkpoint is for layers and images; A and B are the checkpoints")
    if picture is not None:
        if picture.suffix.lower() not in (".png", ".svg", ".pdf"):
            raise typer.BadParameter(f"--picture must end in .png, .svg or .pdf, got {picture}")
        check_free([picture], force)
        if picture.resolve() in {Path(path).resolve() for path in (first, second, image, checkpoint) if path}:
            raise FileError(f"{picture} would replace what is compared; give another name with --picture")
    from drconv.analysis import ComparisonReport, environment

    say = _once()

    def opened(weights: Path | None) -> RegionModel:
        return open_region_model(model, weights, device, seed, convert, say=say)

    def drawing(of: RegionModel, names: list[str] | None) -> Drawing:
        return Drawing(of.target, names, size, False, {}, (of.note,), force)

    if kind == "checkpoints":
        assert image is not None
        models = [opened(Path(first)), opened(Path(second))]
    else:
        models = [opened(checkpoint)]
    notes = list(dict.fromkeys(each.note for each in models))
    for line in (models[0].opening, *notes[1:]):
        notice(line)
    photos = (Path(first), Path(second)) if image is None else (image, image)
    start = drawing(models[0], list(dict.fromkeys((first, second))) if kind == "layers" else layers)
    if models[0].fresh:
        start.calibrate(photos[0])
    a = start.measure(photos[0])
    b = a if kind == "layers" else drawing(models[-1], _names(a)).measure(photos[1])
    named = [(first, second)] if kind == "layers" else [(name, name) for name in _names(a)]
    captions = (f"A: {readable_name(Path(first))}", f"B: {readable_name(Path(second))}")
    pairs = [_match(a, b, *names, kind, captions) for names in named]
    notes += _unscored([comparison for comparison, _ in pairs], kind, captions)
    target = models[0].target
    report = ComparisonReport(kind, first, second, tuple(pair for pair, _ in pairs), tuple(notes))
    arguments = {**target.arguments, "kind": kind, "first": first, "second": second, "layers": layers or []}
    arguments |= {"image": image, "size": size}
    if picture is not None:
        from drconv.viz import comparison_figure

        title = f"{readable_name(Path(first))} and {readable_name(Path(second))}: regions of {target.title}"
        data = BytesIO()
        figure = comparison_figure([row for _, row in pairs], title=title, notes=notes, matched=kind != "images")
        figure.savefig(data, format=picture.suffix[1:].lower())
        write_file(picture, data.getvalue(), force)
        notice(f"wrote {picture}")
    emit(report, envelope("compare", arguments, environment(target.device), report, notes), destination)


def _once() -> Callable[[str], None]:
    """Return what says a line the first time: two checkpoints are converted alike."""
    said: set[str] = set()

    def say(text: str) -> None:
        if text not in said:
            said.add(text)
            notice(text)

    return say


def _unscored(comparisons: Sequence[LayerComparison], kind: Kind, captions: tuple[str, str]) -> list[str]:
    """Return a line for each map with positions whose scores are not finite."""
    from drconv.analysis.statistics import describe_unscored

    lines = [
        f"{name if kind == 'layers' else f'{caption}, {name}'}: {describe_unscored(count)}."
        for x in comparisons
        for name, caption, count in zip((x.first, x.second), captions, x.unscored, strict=True)
        if count
    ]
    return list(dict.fromkeys(lines))


def _names(measured: Measured) -> list[str]:
    """Return the layers that were measured: which are the last at each map size depends on the image."""
    return [layer.name for layer in measured.statistics.layers]


def _kind(first: str, second: str) -> Kind:
    """Tell by their names what two things are."""
    kinds: set[Kind] = set()
    for name in (first, second):
        path = Path(name)
        if path.suffix.lower() in _WEIGHTS:
            kinds.add("checkpoints")
        elif not is_directory(path) and path.is_file():
            kinds.add("images")
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            raise FileError(f"there is no file {name}; give two images, two checkpoints or the names of two layers")
        else:
            kinds.add("layers")
    if len(kinds) > 1:
        raise FileError(
            f"A and B must be of one kind, got {first} and {second}, which look like {' and '.join(sorted(kinds))}; "
            "if they are not, say so with --of"
        )
    return kinds.pop()


def _match(
    a: Measured, b: Measured, first: str, second: str, kind: Kind, captions: tuple[str, str]
) -> tuple[LayerComparison, ComparisonRow]:
    """Compare one layer of one with one layer of the other."""
    from drconv.analysis import LayerComparison
    from drconv.analysis.matching import match_masks
    from drconv.viz import ComparisonRow

    found = [
        next(layer for layer in measured.statistics.layers if layer.name == name)
        for measured, name in ((a, first), (b, second))
    ]
    counts = (found[0].num_regions, found[1].num_regions)
    match = match_masks(a.guided_masks[first], b.guided_masks[second], *counts, same_regions=kind == "images")
    height, width = match.first.shape
    comparison = LayerComparison(
        first,
        second,
        (height, width),
        counts,
        match.agreement,
        match.adjusted_mutual_information,
        match.names,
        match.overlaps,
        (found[0].unscored, found[1].unscored),
    )
    row = ComparisonRow(
        first if first == second else f"{first} and {second}",
        f"{100 * match.agreement:.1f} % of positions agree, AMI {match.adjusted_mutual_information:z.2f}",
        (a.image.pixels, b.image.pixels),
        (first, second) if kind == "layers" else captions,
        (match.first, match.second),
        max(counts[0], 1 + max(match.names)),
    )
    return comparison, row
