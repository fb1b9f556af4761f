"""One frame of a clip as pixels: the photo beside the regions of a layer, with title, key and a line that changes."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from drconv.errors import ArgumentError
from drconv.viz.inches import draw_key, put_text
from drconv.viz.palette import region_colors
from drconv.viz.text import shortened, wrapped

__all__ = ["ClipCanvas"]

_Pixels = NDArray[np.uint8]

_STYLE: Any = {"font.family": ["sans-serif"], "font.size": 8.5, "text.usetex": False, "text.color": "black",
               "text.parse_math": False, "text.antialiased": True}  # fmt: skip
_DPI = 100
# Lengths are inches. Sizes of text are points.
_MARGIN, _GAP, _TITLE, _NAME, _LINE, _KEY = 0.15, 0.1, 0.3, 0.22, 0.18, 0.3
_LEAST_SIDE, _LEAST_WIDTH, _MOST_SIDE = 2.4, 5.2, 6.0
_GREY, _ALPHA = "0.4", 0.5
_CAVEAT = "Regions are routing, not semantic segments; their numbers and colours are arbitrary."


class ClipCanvas:
    """What stays on all frames of a clip, drawn once.

    Args:
        size: (H, W) of the photos, pixels.
        layer: name of the layer whose regions are shown.
        num_regions: M.
        title: text at the top.
        notes: lines at the bottom.

    Raises:
        ArgumentError: a photo has no pixel, or there is no region.
    """

    def __init__(
        self, size: tuple[int, int], layer: str, num_regions: int, *, title: str, notes: Sequence[str] = ()
    ) -> None:
        if min(size) < 1 or num_regions < 1:
            raise ArgumentError(f"a clip needs pixels and regions, got photos of {size} and {num_regions} regions")
        # Small photos are enlarged, large ones kept as they are.
        scale = max(min(_LEAST_SIDE / min(size), _MOST_SIDE / max(size)), 1 / _DPI)
        self.panel = (max(1, round(size[0] * scale * _DPI)), max(1, round(size[1] * scale * _DPI)))
        self.num_regions = num_regions
        self._size = size
        tall, wide = (side / _DPI for side in self.panel)
        inner = max(_LEAST_WIDTH, 2 * wide + _GAP)
        with mpl.rc_context(_STYLE):
            lines = [line for note in (*notes, _CAVEAT) for line in wrapped(note, 0.94 * inner, 8)]
            below = _NAME + _KEY + _LINE * len(lines) + _MARGIN
            # H.264 takes even sides only.
            width, height = (
                2 * round(inches * _DPI / 2) / _DPI for inches in (inner + 2 * _MARGIN, _TITLE + _NAME + tall + below)
            )
            self._figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
            top = height - _TITLE
            put_text(self._figure, _MARGIN, height - 0.17, shortened(title, 0.94 * inner, 10, "bold"), fontsize=10,
                     weight="bold")  # fmt: skip
            left = inner / 2 + _MARGIN + _GAP / 2 if 2 * wide + _GAP < inner else _MARGIN + wide + _GAP
            room = inner - (left - _MARGIN)
            put_text(self._figure, _MARGIN, top - 0.11, shortened("photo", room, 8.5), color=_GREY)
            put_text(self._figure, left, top - 0.11, shortened(layer, 0.97 * room, 8.5), color=_GREY)
            bottom = _MARGIN / 2 + _LINE * len(lines)
            draw_key(self._figure, _MARGIN, bottom + 0.05, num_regions)
            for index, line in enumerate(lines):
                y = _MARGIN / 2 + _LINE * (len(lines) - index - 0.5)
                put_text(self._figure, _MARGIN, y, line, color=_GREY, fontsize=8)
            self._still = _rendered(self._figure)
        self._strip = Figure(figsize=(width, _NAME), dpi=_DPI, facecolor="white")
        row = round((_TITLE + _NAME) * _DPI)
        self._corners = (row, round(_MARGIN * _DPI)), (row, round(left * _DPI))
        self._strip_row = row + self.panel[0] + 2
        self._room = 0.94 * inner

    def draw(self, pixels: _Pixels, guided_mask: NDArray[np.integer[Any]], caption: str) -> _Pixels:
        """Return a frame, `[H', W', 3]` with even sides, the same for all frames.

        Args:
            pixels: photo in sRGB, `[H, W, 3]`.
            guided_mask: region of every position, `[U, V]`.
            caption: line below the photo.

        Raises:
            ArgumentError: the photo has another size, or the mask other regions.
        """
        if pixels.shape != (*self._size, 3):
            raise ArgumentError(f"a frame must have the size {list(self._size)}, got {list(pixels.shape)}")
        if guided_mask.min() < 0 or guided_mask.max() >= self.num_regions:
            raise ArgumentError(
                f"a mask must hold 0 to {self.num_regions - 1}, got {guided_mask.min()} to {guided_mask.max()}"
            )
        height, width = self.panel
        photo = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
        rows, columns = (
            np.arange(to) * of // to for of, to in zip(guided_mask.shape, self.panel, strict=True)
        )  # never smoothed
        colors = 255 * region_colors(self.num_regions)[guided_mask[np.ix_(rows, columns)]]
        overlay = np.rint((1 - _ALPHA) * photo + _ALPHA * colors).astype(np.uint8)
        frame = self._still.copy()
        for (row, column), part in zip(self._corners, (photo, overlay), strict=True):
            frame[row : row + height, column : column + width] = part
        strip = self._caption(caption)
        frame[self._strip_row : self._strip_row + len(strip)] = strip
        return frame

    def _caption(self, text: str) -> _Pixels:
        self._strip.clear()
        with mpl.rc_context(_STYLE):
            put_text(self._strip, _MARGIN, _NAME / 2, shortened(text, self._room, 8.5))
            return _rendered(self._strip)


def _rendered(figure: Figure) -> _Pixels:
    canvas: Any = FigureCanvasAgg(figure)  # matplotlib's backends have no types
    canvas.draw()
    pixels: _Pixels = np.array(canvas.buffer_rgba())[..., :3]
    return pixels
