"""A contact sheet: small images beside their true region maps, the regions named below in their colours."""

from collections.abc import Sequence
from math import ceil
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from drconv.errors import ArgumentError
from drconv.viz.inches import put_text
from drconv.viz.palette import region_color, region_colors
from drconv.viz.text import shortened, text_width, wrapped

__all__ = ["SheetImage", "sheet_figure"]

_STYLE: Any = {"font.family": ["sans-serif"], "text.usetex": False, "text.color": "black", "text.parse_math": False}
# Lengths are inches. Sizes of text are points.
_SIDE, _SEAM, _GAP, _NAMES, _LINE, _MARGIN, _TITLE, _FOOT = 1.15, 0.03, 0.16, 2, 0.13, 0.2, 0.4, 0.19
_SIZE, _SWATCH = 6.5, 0.07


class SheetImage(NamedTuple):
    """One image of a sheet.

    Attributes:
        pixels: sRGB, `[H, W, 3]`.
        region_map: region of every pixel, `[H, W]`.
        names: of the regions.
    """

    pixels: NDArray[np.uint8]
    region_map: NDArray[np.integer[Any]]
    names: tuple[str, ...]


def sheet_figure(images: Sequence[SheetImage], *, columns: int, title: str, notes: Sequence[str] = ()) -> Figure:
    """Draw images beside their true regions.

    Args:
        images: square ones, in the order of reading.
        columns: how many stand side by side.
        title: text at the top.
        notes: lines at the bottom.

    Returns:
        A figure with an axes `image` and an axes `regions` per image.

    Raises:
        ArgumentError: there is no image or no column, or a region has no name.
    """
    if not images or columns < 1:
        raise ArgumentError(f"a sheet needs an image and a column, got {len(images)} images and {columns} columns")
    for image in images:
        if int(image.region_map.max()) >= len(image.names):
            raise ArgumentError(
                f"every region of a sheet needs a name, got region {int(image.region_map.max())} "
                f"and the names {', '.join(image.names) or 'none'}"
            )
    wide, tall = 2 * _SIDE + _SEAM, _SIDE + _NAMES * _LINE
    width = 2 * _MARGIN + columns * wide + (columns - 1) * _GAP
    lines = [line for note in notes for line in wrapped(note, 0.97 * (width - 2 * _MARGIN), 8)]
    rows = ceil(len(images) / columns)
    height = _TITLE + rows * (tall + _GAP) + _FOOT * len(lines) + _MARGIN / 2
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=150)
        put_text(figure, _MARGIN, height - 0.2, shortened(title, width - 2 * _MARGIN, 11, "bold"), fontsize=11,
                 weight="bold")  # fmt: skip
        for number, image in enumerate(images):
            left = _MARGIN + number % columns * (wide + _GAP)
            _draw(figure, image, left, height - _TITLE - number // columns * (tall + _GAP))
        for number, line in enumerate(lines):
            put_text(figure, _MARGIN, _MARGIN / 2 + _FOOT * (len(lines) - number - 0.5), line, fontsize=8, color="0.4")
    return figure


def _draw(figure: Figure, image: SheetImage, left: float, top: float) -> None:
    width, height = figure.get_size_inches()
    colors = region_colors(len(image.names))[image.region_map]
    for x, picture, label in ((left, image.pixels, "image"), (left + _SIDE + _SEAM, colors, "regions")):
        place = (x / width, (top - _SIDE) / height, _SIDE / width, _SIDE / height)
        axes = figure.add_axes(place, label=label)
        axes.imshow(picture, interpolation="nearest")
        axes.set_axis_off()
    x, line = left, 0
    for region, name in enumerate(image.names):
        needed = _SWATCH + 0.03 + text_width(name, _SIZE)
        if x > left and x + needed > left + 2 * _SIDE + _SEAM:
            x, line = left, line + 1
        if line == _NAMES:
            break
        y = top - _SIDE - (line + 0.6) * _LINE
        swatch = Rectangle((x / width, (y - _SWATCH / 2) / height), _SWATCH / width, _SWATCH / height,
                           fc=region_color(region), ec="none")  # fmt: skip
        figure.add_artist(swatch)
        put_text(figure, x + _SWATCH + 0.03, y, name, fontsize=_SIZE)
        x += needed + 0.1
