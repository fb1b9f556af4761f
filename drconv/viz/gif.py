"""A GIF that grows frame by frame, with one palette for all frames, so that a region keeps its colour."""

import struct
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image

from drconv.viz.palette import region_colors

__all__ = ["GifWriter", "clip_palette", "indexed"]

_LEVELS = 6  # of red, green and blue in the cube
_REGIONS, _GREYS = 16, 24  # with the cube 256 colours
_SHORTEST, _LONGEST = 2, 65535  # hundredths of a second that players keep to, and that fit the format
_Pixels = NDArray[np.uint8]


def _bayer(order: int) -> NDArray[np.float64]:
    """Return the matrix of ordered dithering of side 2**order, values from -0.5 to 0.5."""
    matrix = np.zeros((1, 1))
    for _ in range(order):
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    return (matrix + 0.5) / matrix.size - 0.5


_THRESHOLDS = _bayer(3)
_STEP = 255 / (_LEVELS - 1)


def clip_palette() -> _Pixels:
    """Return the colours of every frame, `[256, 3]`: a cube of 6 levels, the 16 colours of regions, and 24 greys."""
    levels = np.arange(_LEVELS) * _STEP
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    greys = np.repeat(np.linspace(0, 255, _GREYS)[:, None], 3, 1)
    colors: _Pixels = np.rint(np.concatenate((cube, 255 * region_colors(_REGIONS), greys))).astype(np.uint8)
    return colors


def indexed(pixels: _Pixels) -> _Pixels:
    """Return the place in the palette of every pixel, `[H, W]`.

    Colours of regions are kept exactly, greys are rounded, and all others are dithered in a fixed pattern, so that what
    stands still does not flicker.

    Args:
        pixels: sRGB, `[H, W, 3]`.
    """
    height, width, _ = pixels.shape
    side = len(_THRESHOLDS)
    noise = np.tile(_THRESHOLDS, (-(-height // side), -(-width // side)))[:height, :width, None]
    levels = np.clip(np.rint(pixels / _STEP + noise), 0, _LEVELS - 1).astype(np.int64)
    found = levels @ np.array([_LEVELS**2, _LEVELS, 1])
    start = _LEVELS**3
    grey = (pixels == pixels[..., :1]).all(-1)
    found[grey] = start + _REGIONS + np.rint(pixels[..., 0][grey] / 255 * (_GREYS - 1)).astype(np.int64)
    packed = pixels.astype(np.int64) @ np.array([65536, 256, 1])
    for index, color in enumerate(clip_palette()[start : start + _REGIONS].astype(np.int64)):
        found[packed == color @ np.array([65536, 256, 1])] = start + index
    indices: _Pixels = found.astype(np.uint8)
    return indices


class GifWriter:
    """Writes frames as they come; of each only the part that has changed.

    Args:
        stream: a file open for writing.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._shown: _Pixels | None = None
        self._waiting: tuple[_Pixels, int] | None = None
        self._duration = 10

    def add(self, pixels: _Pixels, time: float) -> None:
        """Write a frame.

        Args:
            pixels: sRGB, `[H, W, 3]`, the same size for all frames.
            time: at which it is shown, seconds; rounded to hundredths, and at least two of them after the one before.
        """
        indices, start = indexed(pixels), round(100 * time)
        if self._waiting is None:
            self._begin(*indices.shape)
        else:
            self._duration = min(max(start - self._waiting[1], _SHORTEST), _LONGEST)
            self._write(self._waiting[0])
        self._waiting = (indices, start)

    def close(self) -> None:
        """Write what is left; the last frame is shown as long as the one before. The stream stays open."""
        if self._waiting is not None:
            self._write(self._waiting[0])
            self._stream.write(b";")

    def _begin(self, height: int, width: int) -> None:
        """Write the header of GIF89a: size, a palette of 2**8 colours, and that the clip is repeated for ever."""
        self._stream.write(b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0) + clip_palette().tobytes())
        self._stream.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")

    def _write(self, indices: _Pixels) -> None:
        top, left, bottom, right = 0, 0, *indices.shape
        if self._shown is not None:
            rows, columns = np.nonzero(indices != self._shown)
            if not len(rows):
                rows = columns = np.zeros(1, np.int64)  # a frame must have a pixel
            top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
        self._shown = indices
        part = Image.fromarray(np.ascontiguousarray(indices[top:bottom, left:right]), "P")
        part.putpalette(clip_palette().tobytes())
        for block in GifImagePlugin.getdata(part, (int(left), int(top)), duration=10 * self._duration):
            self._stream.write(block)
