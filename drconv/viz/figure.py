"""Regions of one image as a figure for a paper, one row per layer. Draws with objects: no pyplot, no global state."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation, Text
from numpy.typing import NDArray
from PIL import Image

from drconv.analysis.statistics import LayerStatistics, RegionStatistics
from drconv.errors import ArgumentError
from drconv.viz.checked import check_pixels, checked_mask
from drconv.viz.palette import region_color, region_colors
from drconv.viz.patterns import draw_patterns, region_pattern
from drconv.viz.text import ink_on, percent, shortened, text_width, wrapped

__all__ = ["region_figure"]

_Photo = NDArray[np.uint8]
_Mask = NDArray[np.integer[Any]]

# The reader's own matplotlib style must neither move nor recolour anything.
_STYLE: Any = {"font.family": ["sans-serif"], "font.size": 9, "text.usetex": False, "text.color": "black",
          "text.parse_math": False, "axes.linewidth": 0.5, "axes.grid": False, "axes.titlecolor": "0.4",
          "axes.titlesize": 8.5, "axes.titleweight": "normal", "axes.titley": None, "axes.titlepad": 3.5,
          "hatch.linewidth": 0.4, "path.sketch": None}  # fmt: skip
# Lengths are inches. Sizes of text are points.
_MARGIN, _GAP, _HEAD, _CAPTION, _SWATCH, _FOOTER_LINE = 0.3, 0.2, 0.27, 0.2, 0.17, 0.17
_PANEL, _STRIP_WIDTH, _CELL, _THINNEST = 2.7, 8.2, 1.6, 0.12
_SECOND_SCALE = 2.6
_LEGEND, _BAR_LEFT, _BAR_WIDTH, _SHARE_RIGHT, _COSINES = 2.9, 0.78, 0.85, 2.22, 2.6
_PATTERN_WIDTH = 0.32
_GREY, _COLORS = "0.4", mpl.colormaps["RdBu_r"]
_PANELS = {"photo": "photo and boundaries", "map": "region map", "overlay": "overlay", "margin": "margin"}
_MARGINS = mpl.colormaps["cividis"]
_CAVEAT = ("Regions are routing, not semantic segments. Their numbers and colours are arbitrary: "
           "one colour in two layers does not mean one region.")  # fmt: skip


def region_figure(
    pixels: _Photo,
    statistics: RegionStatistics,
    guided_masks: Mapping[str, _Mask],
    *,
    title: str,
    margins: Mapping[str, NDArray[np.floating[Any]]] | None = None,
    notes: Sequence[str] = (),
    patterns: bool = False,
) -> Figure:
    """Draw where each region lies, how large it is and how much its filter differs from the others.

    A row shows, for one layer: the photo with region boundaries, the map at its own grid, one over the other, how
    decided each position is, share and filter norm of each region, and the cosines between filters. Maps are never
    smoothed. The panels of a very wide photo lie below each other.

    Args:
        pixels: photo in sRGB, `[H, W, 3]`.
        statistics: of this one image; rows keep its order.
        guided_masks: region of every position by layer name, `[U, V]` each.
        title: text at the top.
        margins: largest minus second largest probability of every position by layer name, 0 to 1, NaN where it has
            none, `[U, V]` each; see `drconv.analysis.guide_margins`. None leaves this panel out.
        notes: lines at the bottom, such as that the weights are random.
        patterns: whether the region maps also have a hatch for each region, for print without colours.

    Returns:
        A figure with axes per layer labelled `photo`, `map`, `overlay`, `margin`, `legend` and `cosines`, after one
        labelled `scale` and, with margins, one labelled `margin scale`. Saving it needs no display.

    Raises:
        ArgumentError: there is no layer, or the pixels or a mask do not fit the statistics.

    Example:
        >>> masks = {layer.name: layer.guided_mask[0].cpu().numpy() for layer in recording.layers}
        >>> region_figure(image.pixels, region_statistics(recording), masks, title="photo.jpg").savefig("regions.png")
    """
    layers = statistics.layers
    check_pixels(pixels)
    if not layers:
        raise ArgumentError("statistics must hold at least one layer, got none; run the model while recording")
    masks = [checked_mask(layer, guided_masks) for layer in layers]
    panels = {label: caption for label, caption in _PANELS.items() if label != "margin" or margins is not None}
    panel, stacked, stretched = _panel_size(pixels.shape[1] / pixels.shape[0])
    block = panel[0] if stacked else len(panels) * (max(panel[0], _CELL) + _GAP) - _GAP
    tall = len(panels) * (panel[1] + _CAPTION) - _CAPTION if stacked else panel[1]
    side = max(_side(layer.num_regions) for layer in layers)
    left = _MARGIN + block + _GAP + _LEGEND + _GAP + _SWATCH  # of the cosine matrix
    inner = left - _MARGIN + max(_COSINES, side)
    rows = [_HEAD + _CAPTION + max(tall, _side(layer.num_regions) + _SWATCH) + _GAP for layer in layers]
    notes = [*notes, _CAVEAT]
    if stretched:
        notes.append(f"Photo panels are stretched; the photo is very {stretched}.")
    if max(layer.num_regions for layer in layers) > 16:
        notes.append("Colours repeat after 16 regions.")
    scales = 0.95 if margins is None else 0.95 + _SECOND_SCALE
    titles = wrapped(title, max(2.0, left - _MARGIN - scales), 13, "bold")
    footer = [line for note in notes for line in wrapped(note, 0.98 * inner, 8.5)]
    top = _MARGIN + 0.24 * max(1, len(titles)) + 0.12
    height = top + sum(rows) + _FOOTER_LINE * len(footer) + _MARGIN
    # More than 400 pixels per inch only make files large.
    shrink = max(1, int(min(pixels.shape[0] / panel[1], pixels.shape[1] / panel[0]) / 400))
    photo = np.asarray(Image.fromarray(pixels).reduce(shrink)) if shrink > 1 else pixels
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(inner + 2 * _MARGIN, height), dpi=150, facecolor="white")
        for i, line in enumerate(titles):
            _text(figure, _MARGIN, _MARGIN + 0.24 * i, line, fontsize=13, fontweight="bold")
        ax = _axes(figure, "scale", left, _MARGIN + 0.06, 0.8 * _COSINES, 0.1)
        _draw_scale(ax, _COLORS, "cosine -1", "1")
        if margins is not None:
            ax = _axes(figure, "margin scale", left - _SECOND_SCALE, _MARGIN + 0.06, 0.4 * _COSINES, 0.1)
            _draw_scale(ax, _MARGINS, "margin 0", "1")
        for layer, mask, row in zip(layers, masks, rows, strict=True):
            _draw_head(figure, top, inner, layer)
            y = top + _HEAD + _CAPTION
            for i, (label, caption) in enumerate(panels.items()):
                across, down = (0.0, panel[1] + _CAPTION) if stacked else (max(panel[0], _CELL) + _GAP, 0.0)
                ax = _axes(figure, label, _MARGIN + i * across, y + i * down, *panel, caption=caption)
                if label == "margin" and margins is not None:
                    _draw_margins(ax, margins[layer.name])
                else:
                    _draw_panel(ax, panel, mask, photo if label != "map" else None, colored=label != "photo")
                if label == "map" and patterns:
                    draw_patterns(ax, mask)
            side = _side(layer.num_regions)
            ax = _axes(figure, "legend", _MARGIN + block + _GAP, y, _LEGEND, side, caption="share of positions")
            _draw_legend(ax, layer, patterns)
            ax = _axes(figure, "cosines", left, y, side, side, caption="cosine between filters")
            _draw_cosines(ax, layer)
            top += row
        for i, line in enumerate(footer):
            _text(figure, _MARGIN, top + _FOOTER_LINE * i, line, fontsize=8.5, color=_GREY)
    return figure


def _panel_size(aspect: float) -> tuple[tuple[float, float], bool, str]:
    if aspect >= 4:
        width = min(_STRIP_WIDTH, 0.9 * aspect)
        return (width, max(width / aspect, _THINNEST)), True, "wide" if width / aspect < _THINNEST else ""
    height = min(_PANEL, 1.1 * _PANEL / aspect) if aspect > 0.4 else min(1.1 / aspect, 2 * _PANEL)
    return (max(height * aspect, _THINNEST), height), False, "tall" if height * aspect < _THINNEST else ""


def _side(num_regions: int) -> float:
    """Return the side of the cosine matrix, whose rows are level with those of the legend."""
    return max(min(0.45 * num_regions, _COSINES), 0.19 * num_regions)


def _axes(figure: Figure, label: str, x: float, y: float, width: float, height: float, *, caption: str = "") -> Axes:
    across, down = figure.get_size_inches()
    ax = figure.add_axes((x / across, 1 - (y + height) / down, width / across, height / down), label=label)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(caption, loc="left")
    return ax


def _text(figure: Figure, x: float, y: float, text: str, **style: Any) -> Text:
    across, down = figure.get_size_inches()
    return figure.text(x / across, 1 - y / down, text, va="top", **style)


def _draw_head(figure: Figure, top: float, inner: float, layer: LayerStatistics) -> None:
    across, down = figure.get_size_inches()
    figure.add_artist(Rectangle((_MARGIN / across, 1 - (top - 0.05) / down), inner / across, 0, lw=0.5, ec="0.8"))
    size = f"{layer.grid[0]} x {layer.grid[1]} positions (height x width)"
    grid = f"{size}, {layer.num_present} of {layer.num_regions} regions occur"
    if layer.unscored:
        grid += f"; scores not finite at {layer.unscored:,} positions, whose region means nothing"
    # Hinting makes text up to a tenth wider at low resolution, so the grid hangs on the name as it will be drawn.
    name = shortened(layer.name, 0.9 * inner - text_width(grid, 9), 10.5, "bold")
    drawn = _text(figure, _MARGIN, top + 0.02, name, fontsize=10.5, fontweight="bold")
    style: dict[str, Any] = {"textcoords": "offset points", "va": "bottom", "fontsize": 9, "color": _GREY}
    figure.add_artist(Annotation(grid, (1, 0), xycoords=drawn, xytext=(8, 0), **style))


def _draw_panel(ax: Axes, panel: tuple[float, float], mask: _Mask, photo: _Photo | None, *, colored: bool) -> None:
    rows, columns = mask.shape
    extent = (0, columns, rows, 0)
    if photo is not None:
        ax.imshow(photo, extent=extent, aspect="auto", interpolation="antialiased")
    if colored:
        colors = region_colors(int(mask.max()) + 1)[mask]  # [U, V, 3]
        if photo is not None:
            # In the pixels, because PDF and SVG apply the transparency of an image above another one twice.
            colors = np.concatenate((colors, np.full((*mask.shape, 1), 0.5)), axis=2)
        ax.imshow(colors, extent=extent, aspect="auto", interpolation="nearest")
    if photo is not None:
        width = min(0.8, 11 * min(panel[0] / columns, panel[1] / rows))  # a seventh of a position where they are small
        for factor, color in ((2.2, "black"), (1.0, "white")):
            lines = LineCollection(_boundaries(mask), lw=factor * width, colors=color, capstyle="projecting")
            ax.add_collection(lines, autolim=False)


def _draw_margins(ax: Axes, margins: NDArray[np.floating[Any]]) -> None:
    rows, columns = margins.shape
    ax.imshow(margins, cmap=_MARGINS, vmin=0, vmax=1, extent=(0, columns, rows, 0), aspect="auto",
              interpolation="nearest")  # fmt: skip
    for row, column in np.argwhere(np.isnan(margins)):
        ax.add_patch(Rectangle((column, row), 1, 1, fc="0.88", ec="0.55", hatch="/////", lw=0))


def _boundaries(mask: _Mask) -> list[list[tuple[int, int]]]:
    """Return the edges between unlike positions in units of positions, straight runs joined."""
    segments: list[list[tuple[int, int]]] = []
    for grid, upright in ((mask.T, True), (mask, False)):
        differs = np.pad(grid[1:] != grid[:-1], ((0, 0), (1, 1))).astype(np.int8)
        step = np.diff(differs, axis=1)
        for (line, start), (_, stop) in zip(np.argwhere(step == 1), np.argwhere(step == -1), strict=True):
            ends = [(int(line) + 1, int(start)), (int(line) + 1, int(stop))]
            segments.append(ends if upright else [(y, x) for x, y in ends])
    return segments


def _draw_legend(ax: Axes, layer: LayerStatistics, patterns: bool) -> None:
    count = layer.num_regions
    level = _side(count) / count
    size = min(9.0, 0.62 * 72 * level)
    ax.set(xlim=(0, _LEGEND), ylim=(count - 0.5, -0.5))
    ax.set_axis_off()
    ax.set_title("filter norm", loc="right")
    for j, (share, norm) in enumerate(zip(layer.region_share, layer.filter_norms, strict=True)):
        style: dict[str, Any] = {"va": "center_baseline", "fontsize": size, "color": "black" if share else "0.6"}
        thick, indent, color = min(0.62, 0.22 / level), _PATTERN_WIDTH if patterns else 0.0, region_color(j)
        ax.barh(j, (_BAR_WIDTH - indent) * share, left=_BAR_LEFT + indent, height=thick, color=color)
        if patterns:
            box = (0, j - 0.45), 0.85 * _PATTERN_WIDTH, 0.9
            ax.add_patch(Rectangle(*box, fc=color, ec=ink_on(color), lw=0, hatch=region_pattern(j)))
        ax.text(indent, j, f"region {j}", **style)
        ax.text(_SHARE_RIGHT, j, percent(share), ha="right", **style)
        ax.text(_LEGEND, j, "not finite" if norm is None else f"{norm:#.3g}".rstrip("."), ha="right", **style)


def _draw_cosines(ax: Axes, layer: LayerStatistics) -> None:
    count, side = layer.num_regions, _side(layer.num_regions)
    values = np.array([[np.nan if v is None else v for v in row] for row in layer.filter_cosines], dtype=np.float64)
    ax.imshow(values, cmap=_COLORS, vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
    ax.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5))
    for (i, j), value in np.ndenumerate(values):
        if np.isnan(value):
            ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fc="0.88", ec="0.55", hatch="/////", lw=0))
        elif count <= 8:
            ink = ink_on(_COLORS((value + 1) / 2))
            ax.text(j, i, f"{value:z.2f}", ha="center", va="center_baseline", fontsize=7, color=ink)
    thick, size = _SWATCH * count / side, min(7.0, 0.6 * 72 * side / count)
    for j in range(count):
        for x, y, width, height in ((-0.5 - thick, j - 0.5, thick, 1.0), (j - 0.5, count - 0.5, 1.0, thick)):
            color = region_color(j)
            ax.add_patch(Rectangle((x, y), width, height, fc=color, ec="white", lw=0.5, clip_on=False))
            style: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": size, "color": ink_on(color)}
            ax.text(x + width / 2, y + height / 2, str(j), **style)


def _draw_scale(ax: Axes, colors: Colormap, first: str, last: str) -> None:
    ax.imshow(np.linspace(0, 1, 201)[None], cmap=colors, aspect="auto", interpolation="nearest")
    style: dict[str, Any] = {"transform": ax.transAxes, "va": "center_baseline", "color": _GREY, "fontsize": 8.5}
    ax.text(-0.03, 0.5, first, ha="right", **style)
    ax.text(1.03, 0.5, last, ha="left", **style)
