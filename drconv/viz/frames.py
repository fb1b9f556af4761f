"""The frames of a clip, one by one: a folder of images, an animated image, or a video."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from drconv.errors import ArgumentError, DrconvError
from drconv.viz.image import LoadedImage, load_image, opened_image, pillow_rules, prepare_image

__all__ = ["FOLDER_RATE", "Frame", "load_frames", "video_part"]

FOLDER_RATE = 10.0
"""Frames per second of a folder of images, which has no times of its own."""

_NO_DURATION = 0.1  # seconds that browsers show a frame for whose file says none


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame.

    Attributes:
        index: in the clip, from 0.
        time: at which it is shown, seconds after the first one.
        image: as the model takes it.
    """

    index: int
    time: float
    image: LoadedImage


def load_frames(
    source: Path | Sequence[Path], size: int, *, channels: int = 3, every: int = 1, rate: float | None = None
) -> Iterator[Frame]:
    """Read a clip frame by frame; no more than one decoded frame is kept.

    Args:
        source: images in order; or a file: any image that Pillow reads, animated or not, or a video.
        size: shorter side after resizing, pixels.
        channels: 3 for RGB, 1 for luminance.
        every: only each so many-th frame is taken, the first one always.
        rate: frames per second; None takes the times of the file, and `FOLDER_RATE` for images.

    Raises:
        ArgumentError: `every` or `rate` is not usable.
        FileError: while reading, a frame is damaged or too large, or the file holds none.
        DrconvError: a video is to be read, and PyAV (extra `viz`) is not installed.
    """
    if every < 1:
        raise ArgumentError(f"every must be at least 1, got every={every}")
    if rate is not None and not 0 < rate < float("inf"):
        raise ArgumentError(f"rate must be a positive number of frames per second, got rate={rate}")
    if not isinstance(source, Path):
        return _from_images(source, size, channels, every, rate or FOLDER_RATE)
    if _is_image(source):
        return _from_animation(source, size, channels, every, rate)
    return _from_video(source, size, channels, every, rate)


def video_part(why: str) -> Any:
    """Load the module of videos.

    Args:
        why: what a video is needed for, for the message.

    Raises:
        DrconvError: PyAV is not installed.
    """
    try:
        return import_module("drconv.viz.video")
    except ImportError as error:
        raise DrconvError(
            f"{why}, which needs what the extra 'viz' installs, and there is no {error.name}; pip install 'drconv[viz]'"
        ) from error


def _from_images(paths: Sequence[Path], size: int, channels: int, every: int, rate: float) -> Iterator[Frame]:
    for index in range(0, len(paths), every):
        yield Frame(index, index / rate, load_image(paths[index], size, channels=channels))


def _from_animation(path: Path, size: int, channels: int, every: int, rate: float | None) -> Iterator[Frame]:
    time = 0.0
    with opened_image(path) as image:
        for index in range(getattr(image, "n_frames", 1)):
            with pillow_rules():
                image.seek(index)
                image.load()
                # A copy: later frames of a GIF are drawn onto this one.
                shown = None if index % every else image.copy()
                loaded = None if shown is None else prepare_image(shown, size, channels=channels, name=str(path))
            if loaded is not None:
                yield Frame(index, time if rate is None else index / rate, loaded)
            time += float(image.info.get("duration", 0)) / 1000 or _NO_DURATION


def _from_video(path: Path, size: int, channels: int, every: int, rate: float | None) -> Iterator[Frame]:
    decode: Callable[..., Iterator[tuple[int, float, Image.Image]]]
    decode = video_part(f"{path} is no image that Pillow reads; it can only be a video").decoded_frames
    for index, time, image in decode(path, every):
        yield Frame(
            index, time if rate is None else index / rate, prepare_image(image, size, channels=channels, name=str(path))
        )


def _is_image(path: Path) -> bool:
    try:
        if not path.is_file():  # `opened_image` will say what it is; to open a pipe would wait for its writer
            return True
        with pillow_rules(), Image.open(path):
            return True
    except UnidentifiedImageError:
        return path.stat().st_size == 0
    except Exception:  # `opened_image` will say what is wrong
        return True
