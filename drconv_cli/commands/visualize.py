"""`drconv visualize`: region maps and filter statistics of images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from io import BytesIO
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from drconv.errors import DrconvError, FileError
from drconv_cli.clips import MOST_FRAMES, ClipFiles, clip_options, draw_clip
from drconv_cli.drawing import Drawing
from drconv_cli.images import STDIN, STDIN_NAME, check_there, find_images, is_directory, read_stdin, short_names
from drconv_cli.keeping import Keeping
from drconv_cli.options import (
    CheckpointOpt,
    ConvertOpt,
    DeviceOpt,
    ForceOpt,
    FormatOpt,
    JsonOpt,
    RegionModelOpt,
    SeedOpt,
    apart,
)
from drconv_cli.output import Destination, check_free, emit, envelope, notice, progress, readable_name, write_file
from drconv_cli.preview import Previews
from drconv_cli.redrawing import Redrawing, open_redrawing
from drconv_cli.region_model import RegionModel, open_region_model
from drconv_cli.render import FORMATS
from drconv_cli.rows import join_parts, rows_part
from drconv_cli.workers import Workers, workers

if TYPE_CHECKING:
    from drconv.analysis import ImageStatistics, UsageReport
    from drconv.viz import GridColumn

__all__ = ["visualize"]

FigureFormat = Literal["png", "svg", "pdf"]

MOST_PICTURES = 16
"""Up to so many images each have a picture and an entry in statistics.json by themselves."""

_HEADER = ("index", "image", "layer", "grid", "region", "positions", "share", "margin", "filter norm",
           "nearest filter", "cosine")  # fmt: skip


def visualize(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE",
            help="Photos in any format that Pillow reads: files, directories, quoted patterns, @FILE with one path per "
            "line, or - for one on stdin. Needed unless there is --from.",
            show_default=False,
        ),
    ] = None,
    model: RegionModelOpt = None,
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
        int,
        typer.Option(
            "--size", min=1, max=100_000, help="Shorter side of the image after resizing, in pixels; not cropped."
        ),
    ] = 224,
    statistics: Annotated[
        Literal["default", "full"],
        typer.Option(
            "--statistics",
            help="'full' adds components and boundaries of regions, ranks of filters, agreement of layers.",
        ),
    ] = "default",
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE|DIR",
            help="Map of classes to compare with, an index PNG (255 ignored); for several images, a directory of "
            "IMAGE_NAME.png.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Directory of the pictures and statistics.json.")
    ] = Path("drconv-regions"),
    figures: Annotated[
        Literal["auto", "each", "set", "none"],
        typer.Option(
            "--figures",
            help="Pictures: one for 'each' image, those of the whole 'set', or 'none'; auto: both for up to "
            f"{MOST_PICTURES} images, those of the set for more.",
        ),
    ] = "auto",
    report: Annotated[
        bool,
        typer.Option(
            "--report", help="Also write IMAGE_NAME.html, an interactive page, for each image. Needs the extra 'viz'."
        ),
    ] = False,
    evidence: Annotated[
        Path | None,
        typer.Option(
            "--evidence",
            metavar="FOLDER",
            help="Also write this folder, whole or not at all: maps, margins, photos, statistics, and a manifest.",
            show_default=False,
        ),
    ] = None,
    redrawn: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            help="Instead of IMAGE: draw and print again what --evidence kept, without the model or the photos.",
            show_default=False,
        ),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show the region maps beside the photo in the terminal, on stderr.")
    ] = False,
    fail_dead: Annotated[
        bool, typer.Option("--fail-dead", help="Exit with 1 if a region of the chosen layers occurs on no image.")
    ] = False,
    figure_format: Annotated[FigureFormat, typer.Option("--figure-format", help="Format of the pictures.")] = "png",
    patterns: Annotated[
        bool,
        typer.Option("--patterns", help="Give each region of a region map a hatch too, for print without colours."),
    ] = False,
    frames: Annotated[
        bool,
        typer.Option(
            "--frames",
            help="IMAGE is a clip: a folder of frames, an animated image or a video (extra 'viz'). Draws an animation, "
            "and how stable the regions are.",
        ),
    ] = False,
    every: Annotated[
        int | None,
        typer.Option("--every", metavar="N", min=1, help="With --frames: take every N-th frame.", show_default="1"),
    ] = None,
    max_frames: Annotated[
        int | None,
        typer.Option(
            "--max-frames", metavar="N", min=1, help="With --frames: take N at most.", show_default=str(MOST_FRAMES)
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            "--fps",
            min=0.01,
            max=1000,
            help="With --frames: so many per second.",
            show_default="the clip's; 10 of a folder",
        ),
    ] = None,
    video: Annotated[
        Literal["gif", "mp4"] | None,
        typer.Option("--video", help="With --frames: format of the animation.", show_default="gif"),
    ] = None,
    seed: SeedOpt = 0,
    device: DeviceOpt = "auto",
    format: FormatOpt = None,
    as_json: JsonOpt = False,
    force: ForceOpt = False,
) -> None:
    """Draw which region every position of an image falls into, layer by layer, and compare the regions' filters.

    Writes one picture per image, and statistics.json; for several images also how regions are used over all of them,
    and images.csv. Regions are routing, not semantic segments. Under torchrun the processes share the images.
    """
    destination = Destination.of(format, as_json, None, force)
    live: dict[str, object] = {"IMAGE": images, "--model": model, "--checkpoint": checkpoint, "--convert": convert}
    live |= {"--layers": layers, "--labels": labels, "--evidence": evidence}
    live |= {"--size": size != 224, "--statistics": statistics != "default"}
    apart("--from", redrawn, live | {"--frames": frames, "--seed": seed != 0, "--device": device != "auto"})
    if not images and redrawn is None:
        raise typer.BadParameter("give at least one image, or --from FOLDER", param_hint="IMAGE...")
    refused = {"labels": labels is not None, "report": report, "figures": figures != "auto", "patterns": patterns}
    refused |= {"statistics full": statistics == "full", "preview": preview, "evidence": evidence is not None}
    clip = clip_options(frames, every, max_frames, fps, video, refused)
    if clip is not None:
        clip_files = ClipFiles.of(images or [], output, clip.video, figure_format, force)
        opened = open_region_model(model, checkpoint, device, seed, convert, first="frame")
        arguments = {**opened.target.arguments, "images": images, "layers": layers or [], "size": size, **asdict(clip)}
        usage = draw_clip(clip_files, clip, opened, layers, size, arguments, destination)
        if fail_dead:
            _check_alive(usage)
        return
    with ExitStack() as stack:
        drawing: Drawing | Redrawing
        sources: dict[Path, Path] = {}
        if redrawn is not None:
            drawing = open_redrawing(redrawn, force, patterns)
            if output.resolve().is_relative_to(redrawn.resolve()):
                raise FileError(f"--output must lie outside the evidence folder, got {output} and {redrawn}")
            paths, full = drawing.paths, drawing.full
        elif images == [STDIN]:
            paths, full = [STDIN_NAME], statistics == "full"
            sources[STDIN_NAME] = read_stdin(Path(stack.enter_context(TemporaryDirectory())))
        else:
            paths, full = find_images(images or ()), statistics == "full"
            check_there(paths)
        files = _Files.of(paths, output, figure_format, figures, full, report)
        _check_apart(paths, files.all)
        check_free(files.all, force)
        keeping = Keeping(evidence, output, force, sources)
        # Only now: no process writes before all have looked.
        team = stack.enter_context(workers())
        from drconv.analysis import RegionReport, environment

        said: Sequence[str]
        if redrawn is None:
            opened = open_region_model(model, checkpoint, device, seed, convert)
            said = (opened.opening,)
            drawing = _open_drawing(
                opened,
                paths,
                layers,
                size,
                full,
                _label_paths(paths, labels),
                force,
                patterns,
                full or files.shows_each or evidence is not None,
                sources,
            )
        else:
            said = drawing.notes
        if team.leads:
            for line in said:
                notice(line)
        keeping.start(stack)
        previews = Previews(preview)
        outcome = _draw_all(drawing, paths, files, team, keeping, previews)
        if outcome is None:
            return
        found = RegionReport(outcome.images, drawing.notes, outcome.usage if len(paths) > 1 else None)
        if isinstance(drawing, Drawing):
            asked = {"images": images, "layers": layers or [], "size": size, "statistics": statistics}
            arguments = {**drawing.target.arguments, **asked, "labels": None if labels is None else str(labels)}
            measured_on = environment(drawing.target.device)
        else:
            arguments, measured_on = drawing.arguments, drawing.environment
        data = envelope("visualize", arguments, measured_on, found, [*drawing.notes, *outcome.failures])
        _draw_set(outcome, files, f"Regions of {drawing.title}", drawing.notes, force)
        text = FORMATS["json"].render(found.to_table(), data, None).encode()
        write_file(files.statistics, text, force)
        written = [path for path in files.all if path != files.statistics and path.exists()]
        if isinstance(drawing, Drawing):
            pictures = [path for path in written if path != files.rows]
            keeping.finish(drawing.target, drawing.notes, data, text, pictures, files.rows)
    previews.show()
    emit(found, data, destination)
    named = [str(path) for path in ([evidence, *written] if evidence is not None else written)]
    listed = ", ".join([*named[:4], *(["..."] if len(named) > 4 else [])])
    notice(f"wrote {listed} and {files.statistics}" if listed else f"wrote {files.statistics}")
    if outcome.failures:
        raise DrconvError(
            f"{len(outcome.failures)} of {len(paths)} images could not be drawn; the rest are in {output}"
        )
    if fail_dead:
        _check_alive(outcome.usage)


def _open_drawing(
    opened: RegionModel,
    paths: list[Path],
    layers: list[str] | None,
    size: int,
    full: bool,
    labels: dict[Path, Path],
    force: bool,
    patterns: bool,
    filters: bool,
    sources: dict[Path, Path],
) -> Drawing:
    """Return how images are measured with a model, which is calibrated first if it has never seen data."""
    drawing = Drawing(opened.target, layers, size, full, labels, (opened.note,), force, patterns, filters, sources)
    if opened.fresh:
        _calibrate(drawing, paths)
    return drawing


@dataclass(frozen=True)
class _Files:
    """What is written.

    Attributes:
        figures: one for each image, or none.
        filters: one more for each image, with full statistics.
        pages: one for each image, if they are asked for.
        each: whether the statistics of each image are kept.
        grid: picture of the images side by side, if they are few.
        usage: picture of how regions are used over the set.
        rows: CSV of all images.
        statistics: JSON.
    """

    figures: tuple[Path, ...]
    filters: tuple[Path, ...]
    pages: tuple[Path, ...]
    each: bool
    grid: Path | None
    usage: Path | None
    rows: Path | None
    statistics: Path

    @classmethod
    def of(cls, images: list[Path], output: Path, suffix: str, figures: str, full: bool, pages: bool) -> _Files:
        """Choose names; a picture has the stem of its image's short name, numbered where that is taken."""
        several, few = len(images) > 1, len(images) <= MOST_PICTURES
        draws_each = figures == "each" or (figures == "auto" and few)
        draws_set = several and figures in ("auto", "set")
        endings = ("", "-filters") if full else ("",)
        taken = {"usage", "grid"} if several else set()
        stems = []
        for image in short_names(images) if draws_each or pages else ():
            plain = "-".join((*image.parent.parts, image.stem))
            stem, number = plain, 1
            while any(stem + ending in taken for ending in endings):
                number += 1
                stem = f"{plain}-{number}"
            taken.update(stem + ending for ending in endings)
            stems.append(stem)
        drawn = [
            tuple(output / f"{stem}{ending}.{suffix}" for stem in stems if draws_each) for ending in ("", "-filters")
        ]
        return cls(
            drawn[0],
            drawn[1] if full else (),
            tuple(output / f"{stem}.html" for stem in stems if pages),
            few,
            output / f"grid.{suffix}" if draws_set and few else None,
            output / f"usage.{suffix}" if draws_set else None,
            output / "images.csv" if several else None,
            output / "statistics.json",
        )

    @property
    def shows_each(self) -> bool:
        """Whether something is kept of each image that has its filters in it."""
        return self.each or bool(self.figures or self.pages)

    @property
    def all(self) -> list[Path]:
        """Every file."""
        others = (path for path in (self.grid, self.usage, self.rows) if path is not None)
        return [*self.figures, *self.filters, *self.pages, self.statistics, *others]


@dataclass(frozen=True)
class _Outcome:
    """What all processes found: the images that are few, the use of regions, and what failed."""

    images: tuple[ImageStatistics, ...]
    columns: tuple[GridColumn, ...]
    usage: UsageReport
    failures: list[str]


def _calibrate(drawing: Drawing, paths: list[Path]) -> None:
    """Calibrate on the first image that can be read, in every process."""
    for path in paths:
        try:
            drawing.calibrate(path)
            return
        except FileError:
            if path == paths[-1]:
                raise


def _draw_all(
    drawing: Drawing | Redrawing, paths: list[Path], files: _Files, team: Workers, keeping: Keeping, previews: Previews
) -> _Outcome | None:
    """Run, measure and draw this process's images; the process that leads returns what all found."""
    from drconv.analysis import ImageStatistics, RegionUsage
    from drconv.viz import GridColumn

    usage = RegionUsage()
    done: list[tuple[int, ImageStatistics]] = []
    columns: list[tuple[int, GridColumn]] = []
    failures: list[tuple[int, str]] = []
    names = ["/".join(readable_name(Path(part)) for part in short.parts) for short in short_names(paths)]
    with ExitStack() as stack:
        part = stack.enter_context(rows_part(files.rows.parent, team.rank)) if files.rows else None
        step = stack.enter_context(progress()) if team.leads else None
        mine = team.share(paths)
        measure = stack.enter_context(drawing.measuring([path for _, path in mine]))
        for place, (index, path) in enumerate(mine):
            if step is not None:
                step(names[index], place, len(mine))
            try:
                measured = measure(path)
                # First, because it alone refuses what is too much for it.
                page = files.pages[index] if files.pages else None
                if page is not None:
                    drawing.write_page(measured, names[index], page)
                figure = files.figures[index] if files.figures else None
                if figure is not None:
                    drawing.draw(measured, names[index], figure)
                if files.filters:
                    drawing.draw_filters(measured, names[index], files.filters[index])
            except DrconvError as error:
                if len(paths) == 1:
                    raise
                failures.append((index, str(error)))
                keeping.fail(index, path, str(error))
                notice(f"left out: {error}")
                continue
            keeping.add(index, path, measured)
            previews.add(index, names[index], measured)
            usage.add(index, str(path), measured.statistics, measured.guided_masks)
            if part is not None:
                part.add((index, str(path), *row) for row in measured.statistics.rows())
            if files.grid is not None:
                columns.append((index, GridColumn(names[index], measured.image.pixels, measured.guided_masks)))
            if files.each:
                height, width = measured.image.pixels.shape[:2]
                drawn, written = (None if file is None else str(file) for file in (figure, page))
                done.append((index, ImageStatistics(str(path), (height, width), drawn, measured.statistics, written)))
        if part is not None:
            part.close()
        found = team.gather((usage, done, columns, failures, None if part is None else part.path))
        if team.leads:
            for other, *_ in found[1:]:
                usage.merge(other)
            if files.rows is not None and usage.num_images:
                join_parts([path for *_, path in found if path is not None], _HEADER, files.rows)
        keeping.gather(team)
        previews.gather(team)
        # The other processes must not delete their parts before these have been read.
        team.gather(None)
    if not team.leads:
        return None
    failed = [text for _, text in sorted(x for *_, some, _ in found for x in some)]
    if not usage.num_images:
        raise DrconvError(f"none of {len(paths)} images could be drawn; the first: {failed[0]}")
    images = sorted((x for _, some, *_ in found for x in some), key=itemgetter(0))
    side_by_side = sorted((x for _, _, some, *_ in found for x in some), key=itemgetter(0))
    return _Outcome(tuple(x for _, x in images), tuple(x for _, x in side_by_side), usage.report(), failed)


def _draw_set(outcome: _Outcome, files: _Files, title: str, notes: Sequence[str], force: bool) -> None:
    """Write the pictures of all images together."""
    from drconv.viz import grid_figure, usage_figure

    drawn = []
    if files.grid is not None:
        # Images of other shapes may have another last layer at a map size.
        shared = {
            layer.name: layer.num_regions
            for layer in outcome.usage.layers
            if all(layer.name in column.guided_masks for column in outcome.columns)
        }
        if shared:
            drawn.append((grid_figure(outcome.columns, shared, title=title, notes=notes), files.grid))
    if files.usage is not None:
        drawn.append((usage_figure(outcome.usage, title=title, notes=notes), files.usage))
    for figure, path in drawn:
        data = BytesIO()
        figure.savefig(data, format=path.suffix[1:])
        write_file(path, data.getvalue(), force)


def _check_alive(usage: UsageReport) -> None:
    dead = [f"{layer.name} {list(layer.dead)}" for layer in usage.layers if layer.dead]
    if dead:
        raise DrconvError(f"--fail-dead: regions that occur on no image: {'; '.join(dead)}")


def _check_apart(images: list[Path], written: list[Path]) -> None:
    """Raise if a picture would take the place of a photo, which not even --force may do."""
    photos = {image.resolve() for image in images}
    for path in written:
        if path.resolve() in photos:
            raise FileError(f"{path} would replace the photo of that name; choose another directory with --output")


def _label_paths(images: list[Path], labels: Path | None) -> dict[Path, Path]:
    """Return the map of classes of each image: the one file, or the file of its name in a directory."""
    if labels is None:
        return {}
    if is_directory(labels):
        found = {image: labels / f"{image.stem}.png" for image in images}
        taken: dict[Path, Path] = {}
        for image, name in found.items():
            if taken.setdefault(name, image) != image:
                raise FileError(f"{taken[name]} and {image} would both be compared with {name}; give each its own name")
        return found
    if len(images) > 1:
        raise FileError(
            f"--labels must be a directory of <image name>.png for {len(images)} images, got the file {labels}"
        )
    return {images[0]: labels}
