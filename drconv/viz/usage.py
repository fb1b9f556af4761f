"""How regions are used over many images, as a figure: a row per layer with shares and places. Maps are not smoothed."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drconv.analysis.usage import LayerUsage, UsageReport
from drconv.errors import ArgumentError
from drconv.viz.palette import region_color
from drconv.viz.text import ink_on, percent, shortened, wrapped

__all__ = ["usage_figure"]

_STYLE: Any = {"font.family": ["sans-serif"], "font.size": 9, "text.usetex": False, "text.color": "black",
          "text.parse_math": False, "axes.linewidth": 0.5, "axes.grid": False, "axes.titlesize": 8.5}  # fmt: skip
# Lengths are inches. Sizes of text are points.
_WIDTH, _MARGIN, _TITLE, _HEAD, _LINE, _GAP = 10.6, 0.3, 0.45, 0.42, 0.2, 0.25
_BARS, _BAR_LEFT, _BAR_WIDTH, _MOST_WIDTH = 3.5, 0.78, 1.05, 0.6
_PRIOR, _PRIOR_GAP, _PRIOR_HEAD, _ACROSS, _SCALE = 0.68, 0.08, 0.2, 8, 0.1
_GREY, _COLORS = "0.4", mpl.colormaps["cividis"]
_WHAT = ("share: of all positions. images: on which a region occurs. Maps: the share of the images that have the "
         "region at a place, every image stretched to a square; ticks mark the thirds.")  # fmt: skip
_CAVEAT = ("Regions are routing, not semantic segments. Their numbers and colours are arbitrary: "
           "one colour in two layers does not mean one region.")  # fmt: skip


def usage_figure(usage: UsageReport, *, title: str, notes: Sequence[str] = ()) -> Figure:
    """Draw, for each layer, how often each region is used and where on the image it lies.

    Args:
        usage: of at least one layer.
        title: text at the top.
        notes: lines at the bottom.

    Returns:
        A figure; per layer an axes labelled `shares`, one labelled `prior` per region, and one labelled `scale`.

    Raises:
        ArgumentError: there is no layer.
    """
    if not usage.layers:
        raise ArgumentError("a usage must hold at least one layer, got none; add images to it first")
    inner = _WIDTH - 2 * _MARGIN
    lines = [line for note in (*notes, _WHAT, _CAVEAT) for line in wrapped(note, 0.96 * inner, 8.5)]
    rows = [_HEAD + max(_bars_height(x), _priors_height(x)) + _GAP for x in usage.layers]
    height = _TITLE + sum(rows) + _LINE * len(lines) + _MARGIN
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), dpi=200)
        images = f", {max(layer.num_images for layer in usage.layers):,} images"
        figure.text(_MARGIN / _WIDTH, 1 - 0.25 / height, shortened(title + images, inner, 11, "bold"),
                    fontsize=11, weight="bold", va="center_baseline")  # fmt: skip
        top = height - _TITLE
        for layer, row in zip(usage.layers, rows, strict=True):
            _draw_layer(figure, layer, top)
            top -= row
        for index, line in enumerate(lines):
            y = (_MARGIN / 2 + _LINE * (len(lines) - index - 0.5)) / height
            figure.text(_MARGIN / _WIDTH, y, line, fontsize=8.5, color=_GREY, va="center_baseline")
    return figure


def _bars_height(layer: LayerUsage) -> float:
    return 0.2 * layer.num_regions


def _priors_height(layer: LayerUsage) -> float:
    return ceil(layer.num_regions / _ACROSS) * (_PRIOR_HEAD + _PRIOR + _PRIOR_GAP) + 0.35


def _axes(figure: Figure, left: float, top: float, width: float, height: float, label: str) -> Axes:
    """Add axes at a place in inches from the left and the bottom of the figure; `top` is their upper edge."""
    whole_width, whole_height = figure.get_size_inches()
    return figure.add_axes(
        (left / whole_width, (top - height) / whole_height, width / whole_width, height / whole_height), label=label
    )


def _draw_layer(figure: Figure, layer: LayerUsage, top: float) -> None:
    width, height = figure.get_size_inches()
    effective = np.exp(layer.entropy)
    head = f"{shortened(layer.name, 5, 9, 'bold')}"
    figure.text(_MARGIN / width, (top - 0.1) / height, head, weight="bold", va="center_baseline")
    use = f"as even as {effective:.1f} of {layer.num_regions} regions"
    if layer.unscored:
        use = f"scores not finite at {layer.unscored:,} positions; {use}"
    figure.text(1 - _MARGIN / width, (top - 0.1) / height, use,
                ha="right", va="center_baseline", color=_GREY, fontsize=8.5)  # fmt: skip
    top -= _HEAD
    _draw_bars(_axes(figure, _MARGIN, top, _BARS, _bars_height(layer), "shares"), layer)
    largest = max(1e-9, max(value for region in layer.prior for row in region for value in row))
    left = _MARGIN + _BARS + 0.45
    for j, prior in enumerate(layer.prior):
        x = left + j % _ACROSS * (_PRIOR + _PRIOR_GAP)
        y = top - j // _ACROSS * (_PRIOR_HEAD + _PRIOR + _PRIOR_GAP) + _PRIOR_HEAD
        color = region_color(j)
        figure.text((x + _PRIOR / 2) / width, (y - _PRIOR_HEAD / 2) / height, str(j), fontsize=7.5, ha="center",
                    va="center_baseline", color=ink_on(color),
                    bbox={"boxstyle": "round,pad=0.15", "fc": color, "ec": "none"})  # fmt: skip
        ax = _axes(figure, x, y - _PRIOR_HEAD, _PRIOR, _PRIOR, "prior")
        ax.imshow(prior, cmap=_COLORS, vmin=0, vmax=largest, interpolation="nearest", extent=(0, 3, 3, 0))
        ax.set(xticks=(1, 2), yticks=(1, 2))
        ax.tick_params(length=2, width=0.5, labelbottom=False, labelleft=False)
    bottom = top - _priors_height(layer) + _PRIOR_HEAD + 0.2
    scale = _axes(figure, left + 0.9, bottom, 1.4, _SCALE, "scale")
    scale.imshow(np.linspace(0, 1, 101)[None], cmap=_COLORS, aspect="auto")
    scale.set_axis_off()
    style: dict[str, Any] = {"transform": scale.transAxes, "va": "center_baseline", "color": _GREY, "fontsize": 8}
    scale.text(-0.04, 0.5, "0 % of images", ha="right", **style)
    scale.text(1.04, 0.5, f"{100 * largest:.0f} %", ha="left", **style)


def _draw_bars(ax: Axes, layer: LayerUsage) -> None:
    count = layer.num_regions
    ax.set(xlim=(0, _BARS), ylim=(count - 0.5, -0.5))
    ax.set_axis_off()
    for x, text in ((_BAR_LEFT + _BAR_WIDTH + _MOST_WIDTH, "share"), (_BARS, "images")):
        ax.text(x, -0.95, text, ha="right", va="center_baseline", color=_GREY, fontsize=8.5)
    for j, (share, images) in enumerate(zip(layer.region_share, layer.region_images, strict=True)):
        style: dict[str, Any] = {"va": "center_baseline", "fontsize": 8.5, "color": "black" if images else "0.6"}
        ax.barh(j, _BAR_WIDTH * share, left=_BAR_LEFT, height=0.66, color=region_color(j))
        ax.text(0, j, f"region {j}", **style)
        ax.text(_BAR_LEFT + _BAR_WIDTH + _MOST_WIDTH, j, percent(share), ha="right", **style)
        ax.text(_BARS, j, f"{images:,}" if images else "never", ha="right", **style)
