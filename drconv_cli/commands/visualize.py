"""`drconv visualize`: region maps and filter statistics of images."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from drconv.errors import DrconvError, FileError
from drconv.registry import unknown_name
from drconv_cli.options import (
    MODEL_HELP,
    CheckpointOpt,
    ConvertOpt,
    DeviceOpt,
    ForceOpt,
    FormatOpt,
    JsonOpt,
    SeedOpt,
)
from drconv_cli.output import Destination, check_free, emit, envelope, notice, progress, readable_name, write_file
from drconv_cli.render import FORMATS
from drconv_cli.target import Target, open_target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from drconv.analysis import ImageStatistics, RegionStatistics

__all__ = ["visualize"]

FigureFormat = Literal["png", "svg", "pdf"]


def visualize(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Photos: any format that Pillow reads.")],
    model: Annotated[str | None, typer.Option("--model", "-m", help=MODEL_HELP, show_default=False)] = None,
    checkpoint: CheckpointOpt = None,
    convert: ConvertOpt = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layers",
            metavar="NAME",
            help="Layer or pattern such as 'stage3.*'; 'all' for all; repeatable.",
            show_default="the last layer at each map size",
        ),
    ] = None,
    size: Annotated[
        int, typer.Option("--size", min=1, max=100_000, help="Shorter side, in pixels; aspect kept, no crop.")
    ] = 224,
    statistics: Annotated[
        Literal["default", "full"],
        typer.Option("--statistics", help="'full' adds components, boundaries, ranks of filters, agreement of layers."),
    ] = "default",
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE|DIR",
            help="Map of classes to compare with, an index PNG (255 ignored); for several images, a directory of "
            "<image name>.png.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Directory of the pictures and statistics.json.")
    ] = Path("drconv-regions"),
    figure_format: Annotated[FigureFormat, typer.Option("--figure-format", help="Format of the pictures.")] = "png",
    seed: SeedOpt = 0,
    device: DeviceOpt = "auto",
    format: FormatOpt = None,
    as_json: JsonOpt = False,
    force: ForceOpt = False,
) -> None:
    """Draw which region every position of an image falls into, layer by layer, and compare the regions' filters.

    Writes one picture per image, and statistics.json. Regions are routing, not semantic segments.
    """
    destination = Destination.of(format, as_json, None, force)
    figures = _figure_paths(images, output, figure_format)
    statistics_path = output / "statistics.json"
    _check_apart(images, [*figures, statistics_path])
    check_free([*figures, statistics_path], force)
    from drconv.analysis import RegionReport, environment
    from drconv.models import has_fresh_batch_norm

    target = open_target(model, checkpoint, device, seed, convert)
    # A network that has seen no data needs statistics before its regions are more than one.
    fresh = checkpoint is None and has_fresh_batch_norm(target.model)
    notes = [_describe_weights(target, fresh)]
    notice(notes[0])
    plan = _Plan(target, layers, size, statistics == "full", _label_paths(images, labels), tuple(notes), force)
    done: list[ImageStatistics] = []
    failures: list[str] = []
    with progress() as step:
        for index, (image, figure) in enumerate(zip(images, figures, strict=True)):
            step(readable_name(image), index, len(images))
            try:
                done.append(_draw(plan, image, figure, calibrate=fresh and not done))
            except DrconvError as error:
                if len(images) == 1:
                    raise
                failures.append(str(error))
                notice(f"left out: {error}")
    if not done:
        raise DrconvError(f"none of {len(images)} images could be drawn; the first: {failures[0]}")
    verdicts = [layer.verdict for layer in done[0].statistics.layers] if len(done) == 1 else []
    report = RegionReport(tuple(done), (*notes, *verdicts))
    arguments = {**target.arguments, "images": [str(image) for image in images], "layers": layers or [], "size": size}
    arguments |= {"statistics": statistics, "labels": None if labels is None else str(labels)}
    data = envelope("visualize", arguments, environment(target.device), report, [*notes, *failures])
    write_file(statistics_path, FORMATS["json"].render(report.to_table(), data, None).encode(), force)
    emit(report, data, destination)
    notice(f"wrote {', '.join(x.figure for x in done)} and {statistics_path}")
    if failures:
        raise DrconvError(f"{len(failures)} of {len(images)} images could not be drawn; the rest are in {output}")


def _figure_paths(images: list[Path], output: Path, suffix: str) -> list[Path]:
    """Return a path for each image: its stem, numbered where two images share one."""
    taken: set[str] = set()
    paths = []
    for image in images:
        stem, number = image.stem, 1
        while stem in taken:
            number += 1
            stem = f"{image.stem}-{number}"
        taken.add(stem)
        paths.append(output / f"{stem}.{suffix}")
    return paths


def _check_apart(images: list[Path], written: list[Path]) -> None:
    """Raise if a picture would take the place of a photo, which not even --force may do."""
    photos = {image.resolve() for image in images}
    for path in written:
        if path.resolve() in photos:
            raise FileError(f"{path} would replace the photo of that name; choose another directory with --output")


def _describe_weights(target: Target, fresh: bool) -> str:
    """Return a line on where the weights come from, and what that means for the regions."""
    line = f"{target.title} with {target.weights}"
    if fresh:
        line += ", BatchNorm statistics of the first image"
    if target.is_random:
        line += ": regions show the architecture, not anything learned; give trained weights with --checkpoint"
    return line


@dataclass(frozen=True)
class _Plan:
    """What is done with every image."""

    target: Target
    layers: list[str] | None
    size: int
    full: bool
    labels: dict[Path, Path]
    notes: tuple[str, ...]
    force: bool


def _label_paths(images: list[Path], labels: Path | None) -> dict[Path, Path]:
    """Return the map of classes of each image: the one file, or the file of its name in a directory."""
    if labels is None:
        return {}
    if labels.is_dir():
        return {image: labels / f"{image.stem}.png" for image in images}
    if len(images) > 1:
        raise FileError(
            f"--labels must be a directory of <image name>.png for {len(images)} images, got the file {labels}"
        )
    return {images[0]: labels}


def _draw(plan: _Plan, image: Path, figure: Path, *, calibrate: bool) -> ImageStatistics:
    """Run one image through the model and write its picture."""
    import torch

    from drconv.analysis import (
        ImageStatistics,
        RegionStatistics,
        model_errors,
        record_regions,
        region_statistics,
        with_labels,
    )
    from drconv.models import calibrate_batch_norm
    from drconv.viz import load_image, region_figure

    target = plan.target
    loaded = load_image(image, plan.size, channels=_image_channels(target))
    labels = _load_labels(plan.labels[image], loaded.pixels.shape) if plan.labels else None
    for note in loaded.notes:
        notice(f"{image}: {note}")
    like = next(target.model.parameters(), loaded.tensor)
    tensor = loaded.tensor.to(target.device, like.dtype)
    with torch.inference_mode(), model_errors(target.model, tensor.shape):
        if calibrate:
            calibrate_batch_norm(target.model, tensor)
        with record_regions(target.model) as recording:
            target.model(tensor)
    statistics = region_statistics(recording, plan.full)
    names = _choose_layers(statistics, plan.layers)
    chosen = RegionStatistics(tuple(layer for layer in statistics.layers if layer.name in names))
    masks = {name: recording[name].guided_mask[0].cpu().numpy() for name in names}
    if labels is not None:
        chosen = with_labels(chosen, masks, labels)
    drawn = region_figure(
        loaded.pixels,
        chosen,
        masks,
        title=f"{readable_name(image)}: regions of {target.title}",
        notes=[*loaded.notes, *plan.notes],
    )
    data = BytesIO()
    drawn.savefig(data, format=figure.suffix[1:])
    write_file(figure, data.getvalue(), plan.force)
    height, width = loaded.pixels.shape[:2]
    return ImageStatistics(str(image), (height, width), str(figure), chosen)


def _load_labels(path: Path, photo: tuple[int, ...]) -> NDArray[Any]:
    """Read a map of classes and check that it can be one of this photo."""
    from drconv.viz import load_labels

    labels = load_labels(path)
    (height, width), (photo_height, photo_width) = labels.shape, photo[:2]
    # A side of the photo was rounded to whole pixels when it was resized.
    if abs(width * photo_height - height * photo_width) > max(width, height):
        raise FileError(
            f"labels must have the aspect of the photo, got {path} of {height}x{width} for a photo of "
            f"{photo_height}x{photo_width} as the network sees it (upright, resized)"
        )
    return labels


def _image_channels(target: Target) -> int:
    """Return what the network's first convolution, dynamic or not, takes; 3 if it has none."""
    convs = (module for module in target.model.modules() if hasattr(module, "kernel_size"))
    channels = (getattr(module, "in_channels", None) for module in convs)
    return next((number for number in channels if isinstance(number, int)), 3)


def _choose_layers(statistics: RegionStatistics, patterns: list[str] | None) -> set[str]:
    """Return the names that the patterns match; without patterns, the last layer at each map size."""
    names = [layer.name for layer in statistics.layers]
    if not patterns:
        return set({layer.grid: layer.name for layer in statistics.layers}.values())
    chosen: set[str] = set()
    for pattern in patterns:
        found = names if pattern == "all" else [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            raise unknown_name("layer", pattern, names)
        chosen.update(found)
    return chosen
