"""Two region maps of the same positions side by side, matched regions in one colour, and where they differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from drconv.errors import ArgumentError
from drconv.viz.inches import draw_key, put_text
from drconv.viz.palette import region_colors
from drconv.viz.text import shortened, wrapped

__all__ = ["ComparisonRow", "comparison_figure"]

_STYLE: Any = {"font.family": ["sans-serif"], "font.size": 8.5, "text.usetex": False, "text.color": "black",
          "text.parse_math": False, "axes.linewidth": 0.5, "axes.grid": False, "hatch.linewidth": 0.4}  # fmt: skip
# Lengths are inches. Sizes of text are points.
_MARGIN, _TITLE, _HEAD, _NAME, _HEIGHT, _GAP, _KEY, _LINE = 0.3, 0.45, 0.3, 0.24, 2.0, 0.15, 0.45, 0.18
_TITLE_LINE = 0.2
_ASPECTS = (0.5, 2.0)
_GREY = "0.4"
_DIFFERS = (0.84, 0.37, 0.0)
_MATCHED = "Regions of the second map have the colour of the region of the first that they are matched with."
_SAME = "One layer has the same regions on both images."
_CAVEAT = "Orange in the last panel: positions that differ. Regions are routing, not semantic segments."


@dataclass(frozen=True, eq=False)
class ComparisonRow:
    """One pair of masks.

    Attributes:
        title: shown above it.
        result: shown above it, on the right.
        photos: what the masks are of, uint8, `[H, W, 3]` each.
        captions: above the two maps.
        masks: regions of both under the names of the first, on one grid, `[U, V]` each.
        num_names: how many names there are.
    """

    title: str
    result: str
    photos: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    captions: tuple[str, str]
    masks: tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]
    num_names: int


def comparison_figure(
    rows: Sequence[ComparisonRow], *, title: str, notes: Sequence[str] = (), matched: bool = True
) -> Figure:
    """Draw a row for each pair: both photos or the one, both maps half over it, and where they differ.

    Args:
        rows: at least one.
        title: text at the top.
        notes: lines at the bottom.
        matched: whether regions were matched, rather than being those of one layer on two images.

    Returns:
        A figure with axes labelled `photo`, `first`, `second` and `difference`.

    Raises:
        ArgumentError: there is no row, or two masks of one have different grids.
    """
    if not rows:
        raise ArgumentError("there must be something to compare, got no row")
    for row in rows:
        if row.masks[0].shape != row.masks[1].shape:
            got = f"{list(row.masks[0].shape)} and {list(row.masks[1].shape)}"
            raise ArgumentError(f"the masks of a row must have one grid, got {got}")
    across = _HEIGHT * float(np.clip(rows[0].photos[0].shape[1] / rows[0].photos[0].shape[0], *_ASPECTS))
    inner = max(4 * across + 3 * _GAP, 6.4)
    notes = (*notes, f"{_MATCHED if matched else _SAME} {_CAVEAT}")
    lines = [line for note in notes for line in wrapped(note, 0.96 * inner, 8.5)]
    # Names of layers are long, and what tells two of them apart is often at their ends.
    titles = wrapped(title, 0.96 * inner, 11, "bold")
    heads = [wrapped(row.title, 0.6 * inner, 9, "bold") for row in rows]
    width = inner + 2 * _MARGIN
    more = _TITLE_LINE * max(0, len(titles) - 1) + _LINE * sum(max(0, len(head) - 1) for head in heads)
    height = _TITLE + len(rows) * (_HEAD + _NAME + _HEIGHT + _GAP) + _KEY + _LINE * len(lines) + _MARGIN + more
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=200)
        for i, line in enumerate(titles):
            put_text(figure, _MARGIN, height - 0.25 - _TITLE_LINE * i, line, fontsize=11, weight="bold")
        top = height - _TITLE - _TITLE_LINE * max(0, len(titles) - 1)
        for row, head in zip(rows, heads, strict=True):
            put_text(figure, width - _MARGIN, top - 0.12, row.result, ha="right", color=_GREY)
            for i, line in enumerate(head):
                put_text(figure, _MARGIN, top - 0.12 - _LINE * i, line, fontsize=9, weight="bold")
            top -= _LINE * max(0, len(head) - 1)
            captions = ("photo", *row.captions, "differs")
            for i, (label, caption) in enumerate(
                zip(("photo", "first", "second", "difference"), captions, strict=True)
            ):
                left = _MARGIN + i * (across + _GAP)
                put_text(figure, left, top - _HEAD - 0.1, shortened(caption, across, 8.5), color=_GREY)
                place = (left / width, (top - _HEAD - _NAME - _HEIGHT) / height, across / width, _HEIGHT / height)
                _draw(figure.add_axes(place, label=label, xticks=[], yticks=[]), row, label)
            top -= _HEAD + _NAME + _HEIGHT + _GAP
        draw_key(figure, _MARGIN, _MARGIN + _LINE * len(lines) + 0.1, max(row.num_names for row in rows))
        for index, line in enumerate(lines):
            put_text(figure, _MARGIN, _MARGIN / 2 + _LINE * (len(lines) - index - 0.5), line, color=_GREY)
    return figure


def _draw(ax: Axes, row: ComparisonRow, label: str) -> None:
    first, second = row.masks
    photo = row.photos[label == "second"]
    extent = (0, first.shape[1], first.shape[0], 0)
    ax.imshow(photo, extent=extent, aspect="auto", interpolation="antialiased")
    if label == "photo":
        return
    if label == "difference":
        colors = np.zeros((*first.shape, 4))
        colors[first != second] = (*_DIFFERS, 0.75)
        colors[first == second] = (1, 1, 1, 0.45)
        ax.imshow(colors, extent=extent, aspect="auto", interpolation="nearest")
        # A second sign beside colour; where positions are small the lines of a hatch would hide them.
        if first.size <= 1024:
            for y, x in np.argwhere(first != second):
                ax.add_patch(Rectangle((x, y), 1, 1, fc="none", ec="black", hatch="////", lw=0))
        return
    mask = first if label == "first" else second
    colors = np.dstack((region_colors(row.num_names)[mask], np.full(mask.shape, 0.6)))
    ax.imshow(colors, extent=extent, aspect="auto", interpolation="nearest")
