"""`drconv visualize --frames`: the frames of a clip through the network, one by one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from drconv.errors import ArgumentError, FileError
from drconv_cli.drawing import Drawing
from drconv_cli.images import check_there, find_images, is_directory
from drconv_cli.output import Destination, check_free, emit, envelope, notice, progress, readable_name, write_file
from drconv_cli.region_model import RegionModel
from drconv_cli.render import FORMATS
from drconv_cli.rows import RowsPart, join_parts, rows_part

if TYPE_CHECKING:
    from drconv.analysis import LayerStatistics, UsageReport
    from drconv.analysis.clip_report import ClipReport
    from drconv.analysis.stability import ClipStability, StabilityCounter
    from drconv.viz.canvas import ClipCanvas
    from drconv.viz.frames import Frame

__all__ = ["MOST_FRAMES", "ClipFiles", "ClipOptions", "clip_options", "draw_clip"]

MOST_FRAMES = 300
"""So many frames are taken unless `--max-frames` says otherwise."""

_COLUMNS = ("frame", "time", "layer", "margin", "stability", "chance", "held")


@dataclass(frozen=True)
class ClipOptions:
    """What a clip is read and written with.

    Attributes:
        every: each so many-th frame is taken.
        most: so many at most.
        rate: frames per second; None takes those of the source.
        video: "gif" or "mp4".
    """

    every: int
    most: int
    rate: float | None
    video: str


def clip_options(
    frames: bool, every: int | None, most: int | None, rate: float | None, video: str | None, others: Mapping[str, bool]
) -> ClipOptions | None:
    """Settle the options of clips; None where the images are images.

    Args:
        frames: whether `--frames` was given.
        every: value of `--every`, if it was given.
        most: of `--max-frames`.
        rate: of `--fps`.
        video: of `--video`.
        others: options that make no sense with `--frames`, by name, and whether they were given.

    Raises:
        ArgumentError: options of clips without `--frames`, or options of images with it.
    """
    named = {"every": every, "max-frames": most, "fps": rate, "video": video}
    if not frames:
        given = [name for name, value in named.items() if value is not None]
        if given:
            raise ArgumentError(f"--{given[0]} is for clips, got no --frames; add it, or leave --{given[0]} out")
        return None
    refused = [name for name, given in others.items() if given]
    if refused:
        raise ArgumentError(f"--{refused[0]} is for images, got --frames with it; leave one of them out")
    if "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ArgumentError("the frames of a clip go through one process, got --frames under torchrun; start it alone")
    return ClipOptions(every or 1, most or MOST_FRAMES, rate, video or "gif")


@dataclass(frozen=True)
class ClipFiles:
    """What is read and written.

    Attributes:
        clip: as named on the command line.
        source: a file, or the images of a folder in the order of their numbers.
        video: the animation.
        rows: CSV of all frames.
        stability: picture of the stability.
        statistics: JSON.
    """

    clip: Path
    source: Path | list[Path]
    video: Path
    rows: Path
    stability: Path
    statistics: Path

    @classmethod
    def of(cls, images: Sequence[str], output: Path, suffix: str, figure_format: str, force: bool) -> ClipFiles:
        """Find the clip, choose names, and check before any work that they are free.

        Raises:
            ArgumentError: more than one clip is named.
            FileError: the clip does not exist, a folder has no images, or a file exists and `force` is off.
        """
        if len(images) != 1:
            raise ArgumentError(f"--frames takes one clip, a file or a folder of frames, got {len(images)} arguments")
        clip = Path(images[0])
        source: Path | list[Path] = clip
        if is_directory(clip):
            source = sorted((path for path in find_images([images[0]]) if path.parent == clip), key=_by_number)
            if not source:
                raise FileError(f"the folder holds images only further down, got {clip}; name the folder of the frames")
        else:
            check_there([clip])
        stem = clip.resolve().name if clip.is_dir() else clip.stem
        files = cls(
            clip,
            source,
            output / f"{stem}.{suffix}",
            output / "frames.csv",
            output / f"{stem}-stability.{figure_format}",
            output / "statistics.json",
        )
        read = {path.resolve() for path in ([source] if isinstance(source, Path) else source)}
        for path in files.written:
            if path.resolve() in read:
                raise FileError(f"{path} would replace the clip of that name; choose another directory with --output")
        check_free(files.written, force)
        return files

    @property
    def written(self) -> list[Path]:
        """Every file that is written."""
        return [self.video, self.rows, self.stability, self.statistics]


def draw_clip(
    files: ClipFiles,
    options: ClipOptions,
    opened: RegionModel,
    layers: Sequence[str] | None,
    size: int,
    arguments: dict[str, Any],
    destination: Destination,
) -> UsageReport:
    """Run a clip through a model; write animation, rows, the plot of stability and statistics.json.

    Args:
        files: what is read and written.
        options: of the clip.
        opened: the model.
        layers: names and patterns of what is measured; the first one found is shown.
        size: shorter side of the frames, pixels.
        arguments: for the envelope.
        destination: of the table.

    Returns:
        The use of regions over the frames.
    """
    from drconv.analysis import environment
    from drconv.analysis.clip_report import ClipReport

    notice(opened.opening)
    drawing = Drawing(opened.target, layers, size, False, {}, (opened.note,), destination.force)
    title = f"{readable_name(files.clip.resolve())}: regions of {drawing.target.title}"
    with ExitStack() as stack:
        part = stack.enter_context(rows_part(files.rows.parent, 0))
        stream = stack.enter_context(_whole_file(files.video))
        run = _Run(drawing, title, _writer(options.video, stream), part)
        step = stack.enter_context(progress())
        for frame in _frames(files.source, options, drawing):
            if opened.fresh and not run.times:
                drawing.calibrate_on(frame.image)
            step(f"frame {frame.index}", len(run.times), options.most)
            run.add(frame)
        run.writer.close()
        part.close()
        notes = (*drawing.notes, *run.notes)
        report = ClipReport(
            str(files.clip), run.size, next(iter(run.counters)), run.stability(), run.usage.report(), notes
        )
        data = envelope("visualize", arguments, environment(drawing.target.device), report, list(notes))
        plot = _plot(report, title, files.stability.suffix[1:])
        # All is known: what follows only writes.
        shares = [f"share_{region}" for region in range(max(x.num_regions for x in run.counters.values()))]
        join_parts([part.path], (*_COLUMNS, *shares), files.rows)
    if plot is not None:
        write_file(files.stability, plot, drawing.force)
    write_file(files.statistics, FORMATS["json"].render(report.to_table(), data, None).encode(), drawing.force)
    emit(report, data, destination)
    written = [path for path in files.written[:-1] if plot is not None or path != files.stability]
    notice(f"wrote {', '.join(map(str, written))} and {files.statistics}")
    return report.usage


class _Run:
    """What has been found so far."""

    def __init__(self, drawing: Drawing, title: str, writer: Any, part: RowsPart) -> None:
        from drconv.analysis import RegionUsage

        self.drawing, self.title, self.writer, self.part = drawing, title, writer, part
        self.usage = RegionUsage()
        self.counters: dict[str, StabilityCounter] = {}
        self.canvas: ClipCanvas | None = None
        self.times: list[float] = []
        self.notes: list[str] = []
        self.size = (0, 0)

    def add(self, frame: Frame) -> None:
        """Measure one frame and write it."""
        height, width = frame.image.pixels.shape[:2]
        if self.canvas is not None and (height, width) != self.size:
            raise FileError(
                f"the frames of a clip must have one size, got {height}x{width} at frame {frame.index} after "
                f"{self.size[0]}x{self.size[1]} (height x width, resized)"
            )
        self.size = (height, width)
        measured = self.drawing.measure_loaded(frame.image)
        canvas = self._begin(measured.statistics.layers) if self.canvas is None else self.canvas
        self.notes += [note for note in frame.image.notes if note not in self.notes]
        self.times.append(frame.time)
        self.usage.add(len(self.times) - 1, f"frame {frame.index}", measured.statistics, measured.guided_masks)
        for layer in measured.statistics.layers:
            counter = self.counters[layer.name]
            counter.add(measured.guided_masks[layer.name])
            margin = _mean(measured.margins[layer.name])
            self.part.add([(frame.index, frame.time, layer.name, margin, *counter.last, *layer.region_share)])
        shown, counter = next(iter(self.counters.items()))
        stability, chance, _ = counter.last
        caption = f"frame {frame.index}, {frame.time:.2f} s"
        if stability is not None and chance is not None:
            caption += f": {100 * stability:.1f} % as in the frame before, by chance {100 * chance:.1f} %"
        self.writer.add(canvas.draw(frame.image.pixels, measured.guided_masks[shown], caption), frame.time)

    def stability(self) -> ClipStability:
        """Return the stability of all layers."""
        from drconv.analysis.stability import ClipStability

        return ClipStability(tuple(self.times), tuple(counter.report() for counter in self.counters.values()))

    def _begin(self, layers: Sequence[LayerStatistics]) -> ClipCanvas:
        from drconv.analysis.stability import StabilityCounter
        from drconv.viz.canvas import ClipCanvas

        self.counters = {layer.name: StabilityCounter(layer.name, layer.num_regions) for layer in layers}
        first = layers[0]
        self.canvas = ClipCanvas(self.size, first.name, first.num_regions, title=self.title, notes=self.drawing.notes)
        return self.canvas


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts frame-10 after frame-9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _frames(source: Path | list[Path], options: ClipOptions, drawing: Drawing) -> Iterator[Frame]:
    """Yield the frames, and say so if there are more than asked for."""
    from drconv.regions import input_channels
    from drconv.viz.frames import load_frames

    frames = load_frames(
        source, drawing.size, channels=input_channels(drawing.target.model), every=options.every, rate=options.rate
    )
    yield from islice(frames, options.most)
    if next(frames, None) is not None:
        notice(f"the clip goes on: only the first {options.most} frames were taken; see --max-frames and --every")


def _writer(video: str, stream: BinaryIO) -> Any:
    if video == "gif":
        from drconv.viz.gif import GifWriter

        return GifWriter(stream)
    from drconv.viz.frames import video_part

    return video_part("--video mp4 writes a video").VideoWriter(stream)


@contextmanager
def _whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name only if all goes well."""
    temporary = path.with_name(f".drconv-{path.name}")
    try:
        # Not anonymous: it becomes the result by a change of name.
        with temporary.open("wb+") as stream:
            yield stream
        temporary.replace(path)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _plot(report: ClipReport, title: str, figure_format: str) -> bytes | None:
    """Return the picture of stability; None where one frame shows none."""
    from drconv.viz.stability import stability_figure

    if len(report.stability.times) < 2:
        notice("one frame only: there is no stability to draw")
        return None
    data = BytesIO()
    stability_figure(report.stability, title=title, notes=report.notes).savefig(data, format=figure_format)
    return data.getvalue()


def _mean(margins: Any) -> float | None:
    known = margins[margins == margins]  # NaN where scores are not finite
    return float(known.mean()) if known.size else None
