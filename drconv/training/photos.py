"""Photo textures: homogeneous windows of the photos that scikit-image carries in its package (optional).

Nothing is downloaded: the files are read from the installed package, never through `skimage.data`, which may fetch.
"""

from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from drconv.errors import FileError
from drconv.training.plane import Array
from drconv.viz.image import read_rgb

__all__ = ["HELD_OUT_PHOTOS", "TRAINING_PHOTOS", "PhotoTexture", "detailed", "photo_textures", "window_pixels"]

TRAINING_PHOTOS = (
    "astronaut.png",
    "brick.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
)
"""Files of scikit-image whose windows mosaics may show."""

HELD_OUT_PHOTOS = ("camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png", "rocket.jpg")
"""Files of scikit-image that no mosaic ever shows, so that they can serve for looking; nor does one show a photo of
another package, such as scikit-learn's `china.jpg` and `flower.jpg`."""

_TRAINING_PART = 0.7  # left share of a photo whose windows are for training; those of the tests lie to its right
_SIDES = (48, 72, 108)  # of windows, pixels
_BLOCKS = 4  # a window is homogeneous if its 4 x 4 blocks are alike
_BLACK = 0.04  # mean level below which a window shows nothing
_DETAILED = 0.05  # mean deviation of gray within blocks, above which a window can be told by its texture alone


@dataclass(frozen=True, eq=False)
class PhotoTexture:
    """A photo and its homogeneous windows.

    Attributes:
        name: of the file.
        pixels: sRGB, `[H, W, 3]`.
        windows: top, left and side of each window, pixels, `[N, 3]`.
        detail: mean deviation of gray within the blocks of each window, `[N]`.
        gray: whether the photo has no colour.
    """

    name: str
    pixels: NDArray[np.uint8]
    windows: NDArray[np.int64]
    detail: Array
    gray: bool


@cache
def detailed(textures: tuple[PhotoTexture, ...]) -> tuple[PhotoTexture, ...]:
    """Return the photos with windows that can be told by their texture alone, and only these windows."""
    kept = ((texture, texture.detail >= _DETAILED) for texture in textures)
    return tuple(
        replace(texture, windows=texture.windows[keep], detail=texture.detail[keep])
        for texture, keep in kept
        if keep.any()
    )


@cache
def photo_textures(*, training: bool) -> tuple[PhotoTexture, ...]:
    """Return the photos that have homogeneous windows in their left 70 % (for training) or in the rest (for tests).

    Raises:
        FileError: scikit-image is not installed, or lacks one of the photos.
    """
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise FileError(
            "photo textures come from the photos in scikit-image, and it is not installed; "
            "pip install scikit-image, or use mosaics without photos"
        )
    folder = Path(spec.origin).parent / "data"
    found = (_texture(folder / name, training=training) for name in TRAINING_PHOTOS)
    return tuple(texture for texture in found if len(texture.windows))


def _texture(path: Path, *, training: bool) -> PhotoTexture:
    pixels = np.asarray(read_rgb(path))
    border = int(pixels.shape[1] * _TRAINING_PART)
    part = pixels[:, :border] if training else pixels[:, border:]
    found = [window for side in _SIDES for window in _homogeneous(part, side)]
    windows = np.array([window[:3] for window in found], np.int64).reshape(-1, 3)
    detail = np.array([window[3] for window in found], np.float32)
    return PhotoTexture(path.name, part, windows, detail, bool((pixels == pixels[..., :1]).all()))


def _homogeneous(pixels: NDArray[np.uint8], side: int) -> list[tuple[int, int, int, float]]:
    """Return corner, side and detail of windows whose blocks have about the same colour and amount of detail."""
    block = side // _BLOCKS
    rows, columns = (length // block for length in pixels.shape[:2])
    tiles = pixels[: rows * block, : columns * block].astype(np.float32) / 255
    tiles = tiles.reshape(rows, block, columns, block, 3)
    mean, std = tiles.mean((1, 3)), tiles.mean(-1).std((1, 3))  # [rows, columns, 3], [rows, columns]
    if min(rows, columns) < _BLOCKS:
        return []
    window = (_BLOCKS, _BLOCKS)
    means = sliding_window_view(mean, window, (0, 1))  # [top, left, 3, 4, 4]
    details = sliding_window_view(std, window)  # [top, left, 4, 4]
    detail, drift = details.mean((2, 3)), means.std((3, 4)).max(2)
    even = (drift <= 0.03 + 0.2 * detail) & (details.std((2, 3)) <= 0.008 + 0.22 * detail)
    found = np.argwhere(even & (means.mean((2, 3, 4)) > _BLACK))
    return [(int(top) * block, int(left) * block, side, float(detail[top, left])) for top, left in found]


def window_pixels(rng: np.random.Generator, texture: PhotoTexture, size: int) -> Array:
    """Return one window as a texture, RGB 0 to 1, `[size, size, 3]`, mirrored and turned by quarters at random."""
    top, left, side = (int(number) for number in texture.windows[rng.integers(len(texture.windows))])
    window = texture.pixels[top : top + side, left : left + side]
    turns, mirrored = rng.integers((4, 2))
    window = np.rot90(window[:, ::-1] if mirrored else window, int(turns))
    return _resized(window, size)


def _resized(window: NDArray[np.uint8], size: int) -> Array:
    """Resize a square by linear interpolation between pixel middles, `[size, size, 3]`."""
    side = len(window)
    where = np.clip((np.arange(size, dtype=np.float32) + 0.5) * side / size - 0.5, 0, side - 1)
    low = where.astype(np.int64)
    high, part = np.minimum(low + 1, side - 1), (where - low).astype(np.float32)
    values: Array = window.astype(np.float32) / np.float32(255)
    values = values[low] + part[:, None, None] * (values[high] - values[low])
    result: Array = values[:, low] + part[None, :, None] * (values[:, high] - values[:, low])
    return result
