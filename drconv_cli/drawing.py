"""One image of `drconv visualize`: load, run, measure, draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drconv.errors import FileError
from drconv_cli.output import notice
from drconv_cli.pictures import Measured, Pictures
from drconv_cli.target import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from drconv.viz import LoadedImage

__all__ = ["Drawing", "Measured"]


@dataclass(frozen=True)
class Drawing(Pictures):
    """What is done with every image.

    Attributes:
        target: the model.
        layers: names and patterns; None takes the last layer at each map size.
        size: shorter side of the image, pixels.
        full: whether all statistics are measured.
        labels: map of classes of each image, if there are any.
        notes: lines below every picture.
        force: whether files are replaced.
        patterns: whether region maps have hatches.
        filters: whether filters are measured, as all statistics and the pictures of an image need.
        sources: file of an image that is called otherwise.
    """

    target: Target
    layers: Sequence[str] | None
    size: int
    full: bool
    labels: dict[Path, Path]
    notes: tuple[str, ...]
    force: bool
    patterns: bool = False
    filters: bool = True
    sources: Mapping[Path, Path] = field(default_factory=dict)
    _kept: dict[Path, LoadedImage] = field(default_factory=dict, repr=False)
    _expected: list[list[str] | None] = field(default_factory=list, repr=False)

    @property
    def title(self) -> str:
        """What the model is called."""
        return self.target.title

    def load(self, path: Path) -> LoadedImage:
        """Read an image as the model takes it, and say what was done to it."""
        loaded = self._read(path)
        _say(path, loaded)
        return loaded

    def _read(self, path: Path) -> LoadedImage:
        from drconv.regions import input_channels
        from drconv.viz import load_image

        source, channels = self.sources.get(path, path), input_channels(self.target.model)
        return load_image(source, self.size, channels=channels, name=str(path))

    def calibrate(self, path: Path) -> None:
        """Set the BatchNorm statistics of a fresh network to those of an image."""
        self._kept[path] = loaded = self.load(path)
        self.calibrate_on(loaded)

    def calibrate_on(self, loaded: LoadedImage) -> None:
        """Set the BatchNorm statistics of a fresh network to those of an image that is loaded."""
        import torch

        from drconv.analysis import model_errors
        from drconv.models import calibrate_batch_norm
        from drconv.regions import on_device_of

        tensor = on_device_of(self.target.model, loaded.tensor)
        with torch.inference_mode(), model_errors(self.target.model, tensor.shape):
            calibrate_batch_norm(self.target.model, tensor)

    def measure(self, path: Path) -> Measured:
        """Run an image through the model."""
        kept = self._kept.pop(path, None)
        return self._measured(path, self.load(path) if kept is None else kept)

    @contextmanager
    def measuring(self, paths: Sequence[Path]) -> Iterator[Callable[[Path], Measured]]:
        """Yield what runs an image through the model; it takes the paths in order, and the next are read meanwhile."""
        if len(paths) == 1:
            yield self.measure
            return
        from drconv.viz.image import pillow_rules
        from drconv_cli.ahead import loaded_ahead

        def read(path: Path) -> tuple[LoadedImage, bool]:
            kept = self._kept.pop(path, None)
            return (kept, False) if kept is not None else (self._read(path), True)

        def measure(path: Path) -> Measured:
            loaded, is_new = take()
            if is_new:
                _say(path, loaded)
            return self._measured(path, loaded)

        with pillow_rules(), _a_thread_for_reading(), loaded_ahead(paths, read) as take:
            yield measure

    def _measured(self, path: Path, loaded: LoadedImage) -> Measured:
        labels = None
        if self.labels:
            try:
                labels = _load_labels(self.labels[path], loaded.pixels.shape)
            except FileError as error:
                raise FileError(f"the map of classes for {path}: {error}") from error
        return self.measure_loaded(loaded, labels)

    def measure_loaded(self, loaded: LoadedImage, labels: NDArray[Any] | None = None) -> Measured:
        """Run an image that is loaded through the model, and compare with a map of classes if there is one."""
        from drconv.analysis import with_labels
        from drconv.regions import expected_layers, measure_regions

        if not self._expected:
            known = None if self.full else expected_layers(self.target.model, loaded.tensor, self.layers)
            self._expected.append(known)
        asked = (self.layers, self.full, self._expected[0], self.filters)
        found = measure_regions(self.target.model, loaded.tensor, *asked)
        statistics = found.statistics
        if labels is not None:
            statistics = with_labels(statistics, found.guided_masks, labels)
        return Measured(loaded, statistics, found.guided_masks, found.margins)


@contextmanager
def _a_thread_for_reading() -> Iterator[None]:
    """Leave one of PyTorch's threads to the reading of images.

    The threads of a convolution wait for each other; where one shares its core with the reading, all of them do.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _say(path: Path, loaded: LoadedImage) -> None:
    for note in loaded.notes:
        notice(f"{path}: {note}")


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
