"""From an image file to the pixels a figure shows and the tensor a model takes; never prints, never warns."""

import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from drconv.errors import ArgumentError, DrconvError, FileError

__all__ = [
    "IMAGENET",
    "LoadedImage",
    "load_image",
    "normalised",
    "opened_image",
    "pillow_rules",
    "prepare_image",
    "read_rgb",
    "rgb_from_bytes",
]

IMAGENET = {1: ((0.449,), (0.226,)), 3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}
"""Mean and deviation of ImageNet, by number of channels; the single ones are means over R, G and B."""

_MAX_FILE_PIXELS = 89_478_485  # Pillow's default: a quarter GiB of RGB. Ours, because a program may lift Pillow's.
_MAX_RESIZED_PIXELS = 16_000_000
_WHAT_WORKS = "give a PNG, JPEG, GIF, TIFF, BMP or WebP file"


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """One picture, as people see it and as a model takes it.

    Attributes:
        pixels: sRGB values 0 to 255 as shown in figures, `[H, W, 3]`; gray repeated if the tensor has one channel.
        tensor: normalised by the mean and deviation of ImageNet, `[1, C, H, W]`.
        notes: lines that a reader of the figure should know, such as that only the first frame was used.
    """

    pixels: NDArray[np.uint8]
    tensor: Tensor
    notes: tuple[str, ...]


def load_image(path: Path, size: int, *, channels: int = 3, name: str | None = None) -> LoadedImage:
    """Read an image file, upright, on white, and resized without cropping.

    Args:
        path: of a regular file in any format that Pillow reads.
        size: shorter side after resizing, pixels; the aspect is kept.
        channels: 3 for RGB, 1 for luminance.
        name: what messages call it; None takes the path.

    Returns:
        Pixels and tensor of equal height and width.

    Raises:
        ArgumentError: `size` or `channels` is not usable.
        FileError: the file cannot be read, is no sound image, or is too large before or after resizing.

    Example:
        >>> load_image(Path("photo.jpg"), 224).tensor.shape
        torch.Size([1, 3, 224, 336])
    """
    _check_arguments(size, channels)
    with pillow_rules():
        image, notes = _read(Path(path), str(path) if name is None else name, size)
    return _normalised(image, notes, channels)


def prepare_image(image: Image.Image, size: int, *, channels: int = 3, name: str = "the image") -> LoadedImage:
    """Do with an opened picture what `load_image` does with a file.

    Args:
        image: in any mode of Pillow; its first frame counts.
        size: shorter side after resizing, pixels; the aspect is kept.
        channels: 3 for RGB, 1 for luminance.
        name: what messages call it.

    Raises:
        ArgumentError: `size` or `channels` is not usable.
        FileError: the picture is damaged, or too large before or after resizing.
    """
    _check_arguments(size, channels)
    if 0 in image.size:
        raise FileError(f"{name} must have pixels, got {image.size[0]} x {image.size[1]}")
    if image.size[0] * image.size[1] > _MAX_FILE_PIXELS:
        raise FileError(_too_many(name, f"has {image.size[0]} x {image.size[1]} pixels"))
    with pillow_rules(), _decoded(name):
        resized, notes = _resized(image, name, size)
    return _normalised(resized, notes, channels)


def read_rgb(path: Path) -> Image.Image:
    """Read an image file as RGB, upright and on white, in its own size; of several frames the first.

    Raises:
        FileError: the file cannot be read, is no sound image, or is too large.
    """
    with pillow_rules(), opened_image(Path(path)) as image:
        return _to_rgb(ImageOps.exif_transpose(image), path, [])


def rgb_from_bytes(data: bytes, name: str) -> Image.Image:
    """Do with the bytes of an image file what `read_rgb` does with the file; `name` is what messages call it.

    Raises:
        FileError: the bytes are no sound image, or one that is too large.
    """
    with pillow_rules(), _decoded(name), Image.open(BytesIO(data)) as image:
        if image.size[0] * image.size[1] > _MAX_FILE_PIXELS:
            raise FileError(_too_many(name, f"declares {image.size[0]} x {image.size[1]} pixels"))
        return _to_rgb(ImageOps.exif_transpose(image), name, [])


def normalised(levels: Tensor) -> Tensor:
    """Take the mean and deviation of ImageNet out of levels 0 to 1, `[..., C, H, W]` with C of 1 or 3."""
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET[levels.shape[-3]])
    return (levels - mean) / std


def _check_arguments(size: int, channels: int) -> None:
    if channels not in IMAGENET:
        raise ArgumentError(f"channels must be 1 (luminance) or 3 (RGB), got channels={channels!r}")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ArgumentError(f"size must be an integer of at least 1, got size={size!r}")


_ruled: ContextVar[bool] = ContextVar("drconv_pillow_rules", default=False)


@contextmanager
def pillow_rules() -> Iterator[None]:
    """Keep Pillow from warning, and let it refuse what it finds too large.

    The filters of warnings belong to the whole process. Who reads images in other threads holds the rules around them,
    and runs them in a copy of the context (`contextvars.copy_context`): there, nothing is changed once more.
    """
    if _ruled.get():
        yield
        return
    token = _ruled.set(True)
    try:
        with warnings.catch_warnings():
            # Of nobody else: they may be held while a network runs.
            warnings.filterwarnings("ignore", module=r"PIL\.|drconv\.viz\.image$")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        _ruled.reset(token)


@contextmanager
def _decoded(name: str) -> Iterator[None]:
    """Turn what decoders raise into `FileError`; a file that Pillow has opened is decoded only when it is used."""
    try:
        yield
    except DrconvError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileError(f"the image is damaged or unreadable, got {name} ({reason}); {_WHAT_WORKS}") from error


def _normalised(image: Image.Image, notes: list[str], channels: int) -> LoadedImage:
    if channels == 1:
        image = image.convert("L").convert("RGB")
    pixels = np.array(image, dtype=np.uint8)  # [H, W, 3]
    # From a table, because PyTorch would share so much arithmetic among threads, which may belong to another image.
    planes = [values[pixels[..., channel]] for channel, values in enumerate(_table(channels))]
    return LoadedImage(pixels, torch.from_numpy(np.stack(planes)[None]), tuple(notes))


@cache
def _table(channels: int) -> NDArray[np.float32]:
    """Return what becomes of the levels 0 to 255, `[C, 256]`."""
    levels = torch.arange(256, dtype=torch.float32).expand(channels, 256) / 255
    table: NDArray[np.float32] = normalised(levels[:, :, None]).flatten(1).numpy()
    return table


def _read(path: Path, name: str, size: int) -> tuple[Image.Image, list[str]]:
    """Return the resized RGB image, and notes; every failure becomes a `FileError`."""
    with opened_image(path, name) as image:
        return _resized(image, name, size)


def _resized(image: Image.Image, name: Path | str, size: int) -> tuple[Image.Image, list[str]]:
    _resized_size(name, image.size, size)  # refuses before anything is decoded
    notes = _frame_notes(image)
    # What is upright and RGB is not copied: a photo of 12 megapixels would take a tenth of a second each time.
    image.load()
    is_upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    rgb = _to_rgb(image if is_upright else ImageOps.exif_transpose(image), name, notes)
    return rgb.resize(_resized_size(name, rgb.size, size), Image.Resampling.BICUBIC), notes


@contextmanager
def opened_image(path: Path, name: str | None = None) -> Iterator[Image.Image]:
    """Open an image file that is not too large; whatever fails, here or in decoding, becomes a `FileError`.

    Args:
        path: of a regular file.
        name: what messages call it; None takes the path.
    """
    name = str(path) if name is None else name
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
            raise FileError(f"the image must be a regular file, got {kind}: {name}; {_WHAT_WORKS}")
        if status.st_size == 0:
            raise FileError(f"the image file is empty (0 bytes): {name}; {_WHAT_WORKS}")
        with path.open("rb") as file, Image.open(file) as image:
            width, height = image.size
            if width * height > _MAX_FILE_PIXELS:
                raise FileError(_too_many(name, f"declares {width} x {height} pixels"))
            yield image
    except FileError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise FileError(f"the image file does not exist, got {name}; {_WHAT_WORKS}") from None
    except PermissionError:
        raise FileError(f"the image file may not be read (permission denied), got {name}; make it readable") from None
    except UnidentifiedImageError:
        raise FileError(f"the file is not an image of a known format, got {name}; {_WHAT_WORKS}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise FileError(_too_many(name, "declares more pixels than that")) from None
    except Exception as error:  # decoders meet damaged data with almost any exception
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileError(f"the image is damaged or unreadable, got {name} ({reason}); {_WHAT_WORKS}") from error


def _too_many(name: Path | str, got: str) -> str:
    return f"the image must have at most {_MAX_FILE_PIXELS:,} pixels, got {name}, which {got}; make it smaller first"


def _resized_size(path: Path | str, old: tuple[int, int], size: int) -> tuple[int, int]:
    short, long = min(old), max(old)
    width, height = (round(side * size / short) for side in old)
    if width * height > _MAX_RESIZED_PIXELS:
        largest = int((_MAX_RESIZED_PIXELS * short / long) ** 0.5)
        advice = f"use a smaller size (--size {largest} or less)" if largest else "crop the image first"
        raise FileError(
            f"the resized image must have at most {_MAX_RESIZED_PIXELS:,} pixels, got {width} x {height} "
            f"from {path} ({old[0]} x {old[1]}); {advice}"
        )
    return width, height


def _frame_notes(image: Image.Image) -> list[str]:
    frames = getattr(image, "n_frames", 1)
    kind = "animated image" if image.format in {"GIF", "PNG", "WEBP", "AVIF"} else "file of several images"
    return [f"{kind}: first of {frames} frames used"] if frames > 1 else []


def _to_rgb(image: Image.Image, path: Path | str, notes: list[str]) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64)  # [H, W]
        white, kind = (1.0, "float") if image.mode == "F" else (65535.0, "16-bit")
        if not (values.min() >= 0 and values.max() <= white):  # also false for NaN
            raise FileError(
                f"the values of a {kind} image must lie in 0 to {white:g}, "
                f"got {values.min():g} to {values.max():g} in {path}; rescale it, or save it with 8 bits"
            )
        notes.append(f"{kind} image: values 0 to {white:g} shown as black to white")
        return Image.fromarray(np.rint(values / white * 255).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    rgba = image.convert("RGBA")
    if np.asarray(rgba)[..., 3].min() < 255:
        notes.append("transparent parts are shown on white")
    white_paper = Image.new("RGBA", rgba.size, "white")
    white_paper.alpha_composite(rgba)
    return white_paper.convert("RGB")
