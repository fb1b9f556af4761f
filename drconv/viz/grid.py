"""Several images side by side: a row per layer, a column per image, one key of colours for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from drconv.errors import ArgumentError
from drconv.viz.inches import draw_key, put_text
from drconv.viz.palette import region_colors
from drconv.viz.text import shortened, wrapped

__all__ = ["GridColumn", "grid_figure"]

_STYLE: Any = {"font.family": ["sans-serif"], "font.size": 8.5, "text.usetex": False, "text.color": "black",
          "text.parse_math": False, "axes.linewidth": 0.5, "axes.grid": False}  # fmt: skip
# Lengths are inches. Sizes of text are points.
_MARGIN, _TITLE, _NAME, _HEIGHT, _GAP, _KEY, _LINE, _LEAST = 0.3, 0.5, 0.3, 1.5, 0.1, 0.4, 0.18, 5.6
_ASPECTS = (0.4, 2.2)
_GREY = "0.4"
_CAVEAT = ("Regions are routing, not semantic segments. Their numbers and colours are arbitrary: one colour in two "
           "layers does not mean one region; in one layer it does, on every image.")  # fmt: skip


@dataclass(frozen=True, eq=False)
class GridColumn:
    """One image.

    Attributes:
        name: shown above it.
        pixels: photo in sRGB, uint8, `[H, W, 3]`.
        guided_masks: region of every position by layer name, `[U, V]`.
    """

    name: str
    pixels: NDArray[np.uint8]
    guided_masks: Mapping[str, NDArray[np.integer[Any]]]


def grid_figure(
    columns: Sequence[GridColumn], num_regions: Mapping[str, int], *, title: str, notes: Sequence[str] = ()
) -> Figure:
    """Draw the photos, and below them the region map of every layer, half over the photo.

    Args:
        columns: the images, left to right.
        num_regions: M by layer name, in the order of the rows.
        title: text at the top.
        notes: lines at the bottom.

    Returns:
        A figure with axes labelled `photo` and `overlay`.

    Raises:
        ArgumentError: there is no image or no layer, or an image lacks a layer.
    """
    if not columns or not num_regions:
        raise ArgumentError("a grid needs at least one image and one layer")
    missing = [(c.name, name) for c in columns for name in num_regions if name not in c.guided_masks]
    if missing:
        raise ArgumentError(f"every image must have every layer, got {missing[0][0]!r} without {missing[0][1]!r}")
    widths = [_HEIGHT * float(np.clip(c.pixels.shape[1] / c.pixels.shape[0], *_ASPECTS)) for c in columns]
    inner = max(_LEAST, sum(widths) + _GAP * (len(widths) - 1))
    lines = [line for note in (*notes, _CAVEAT) for line in wrapped(note, 0.96 * inner, 8.5)]
    height = _TITLE + _NAME + (len(num_regions) + 1) * (_HEIGHT + _NAME) + _KEY + _LINE * len(lines) + _MARGIN
    width = inner + 2 * _MARGIN
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=200)
        put_text(figure, _MARGIN, height - 0.28, shortened(title, 0.96 * inner, 11, "bold"), fontsize=11, weight="bold")
        for row, name in enumerate([None, *num_regions]):
            top = height - _TITLE - _NAME - row * (_HEIGHT + _NAME)
            if name is not None:
                put_text(figure, _MARGIN, top + 0.12, shortened(name, 0.96 * inner, 8.5), color=_GREY)
            left = _MARGIN
            for column, across in zip(columns, widths, strict=True):
                if name is None:
                    put_text(figure, left, top + 0.12, shortened(column.name, across, 8.5))
                place = (left / width, (top - _HEIGHT) / height, across / width, _HEIGHT / height)
                ax = figure.add_axes(place, label="photo" if name is None else "overlay", xticks=[], yticks=[])
                ax.imshow(column.pixels, extent=(0, 1, 1, 0), aspect="auto", interpolation="antialiased")
                if name is not None:
                    mask = column.guided_masks[name]
                    colors = np.dstack((region_colors(num_regions[name])[mask], np.full(mask.shape, 0.6)))
                    ax.imshow(colors, extent=(0, 1, 1, 0), aspect="auto", interpolation="nearest")
                left += across + _GAP
        draw_key(figure, _MARGIN, _MARGIN + _LINE * len(lines) + 0.12, max(num_regions.values()))
        for index, line in enumerate(lines):
            put_text(figure, _MARGIN, _MARGIN / 2 + _LINE * (len(lines) - index - 0.5), line, color=_GREY)
    return figure
