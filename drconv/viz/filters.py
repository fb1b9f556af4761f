"""The filters of regions as a figure, a row per layer: how alike, how long, how many directions."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from drconv.analysis.order import similarity_order
from drconv.analysis.statistics import LayerStatistics, RegionStatistics
from drconv.errors import ArgumentError
from drconv.viz.palette import region_color
from drconv.viz.text import ink_on, shortened, wrapped

__all__ = ["filter_figure"]

_STYLE: Any = {"font.family": ["sans-serif"], "font.size": 8.5, "text.usetex": False, "text.color": "black",
          "text.parse_math": False, "axes.linewidth": 0.5, "axes.titlesize": 8.5, "axes.titlecolor": "0.4",
          "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "axes.grid": False,
          "xtick.labelsize": 7.5, "ytick.labelsize": 7.5, "xtick.major.width": 0.5, "ytick.major.width": 0.5,
          "hatch.linewidth": 0.4}  # fmt: skip
# Lengths are inches. Sizes of text are points.
_WIDTH, _MARGIN, _TITLE, _HEAD, _ROW, _GAP, _LINE = 10.6, 0.3, 0.45, 0.55, 2.3, 0.65, 0.18
_MATRIX_LEFT, _NORMS_LEFT, _NORMS_WIDTH, _SPECTRA_LEFT, _SPECTRA_WIDTH = 0.6, 3.6, 2.6, 7.0, 3.2
_GREY, _COLORS = "0.4", mpl.colormaps["RdBu_r"]
_MARKERS = "osD^vP*X"
_WHAT = ("Cosines: regions with similar filters side by side, not in the order of their numbers. Filters as matrices "
         "[O, C/groups * K * K]. Rank: the exponential of the entropy of the singular values as shares. Faded: the "
         "region does not occur.")  # fmt: skip


def filter_figure(statistics: RegionStatistics, *, title: str, notes: Sequence[str] = ()) -> Figure:
    """Draw cosines ordered by similarity, norms and effective ranks, and singular values of each region's filter.

    Args:
        statistics: full ones, see `drconv.region_statistics`.
        title: text at the top.
        notes: lines at the bottom.

    Returns:
        A figure with three axes per layer, labelled `cosines`, `norms` and `spectra`.

    Raises:
        ArgumentError: there is no layer, or the statistics are not full.
    """
    if not statistics.layers or any(layer.filters is None for layer in statistics.layers):
        raise ArgumentError(
            "filter_figure needs full statistics of at least one layer; use region_statistics(..., True)"
        )
    inner = _WIDTH - 2 * _MARGIN
    lines = [line for note in (*notes, _WHAT) for line in wrapped(note, 0.96 * inner, 8.5)]
    height = _TITLE + len(statistics.layers) * (_HEAD + _ROW + _GAP) + _LINE * len(lines) + _MARGIN
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), dpi=200)
        figure.text(_MARGIN / _WIDTH, 1 - 0.25 / height, shortened(title, 0.96 * inner, 11, "bold"), fontsize=11,
                    weight="bold", va="center_baseline")  # fmt: skip
        top = height - _TITLE
        for layer in statistics.layers:
            name = shortened(layer.name, 0.96 * inner, 9, "bold")
            figure.text(_MARGIN / _WIDTH, (top - 0.1) / height, name, weight="bold", fontsize=9, va="center_baseline")
            y = top - _HEAD
            _draw_cosines(_axes(figure, _MATRIX_LEFT, y, _ROW, "cosines"), layer)
            _draw_norms(_axes(figure, _NORMS_LEFT, y, _NORMS_WIDTH, "norms"), layer)
            _draw_spectra(_axes(figure, _SPECTRA_LEFT, y, _SPECTRA_WIDTH, "spectra"), layer)
            top -= _HEAD + _ROW + _GAP
        for index, line in enumerate(lines):
            y = _MARGIN / 2 + _LINE * (len(lines) - index - 0.5)
            figure.text(_MARGIN / _WIDTH, y / height, line, color=_GREY, va="center_baseline")
    return figure


def _axes(figure: Figure, left: float, top: float, width: float, label: str) -> Axes:
    """Add axes of a row's height; places in inches, `top` is the distance of their upper edge from the bottom."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, (top - _ROW) / down, width / across, _ROW / down), label=label)


def _draw_cosines(ax: Axes, layer: LayerStatistics) -> None:
    order, count = similarity_order(layer.filter_cosines), layer.num_regions
    known = [[np.nan if v is None else v for v in row] for row in layer.filter_cosines]
    values = np.array(known, dtype=np.float64)[np.ix_(order, order)]
    ax.imshow(values, cmap=_COLORS, vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
    ax.set_title("cosine between filters")
    ax.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5), xticks=[], yticks=[])
    for (i, j), value in np.ndenumerate(values):
        if np.isnan(value):
            ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fc="0.88", ec="0.55", hatch="/////", lw=0))
        elif count <= 8:
            ink = ink_on(_COLORS((value + 1) / 2))
            ax.text(j, i, f"{value:z.2f}", ha="center", va="center_baseline", fontsize=6.5, color=ink)
    thick, size = 0.2 * count / _ROW, min(7.0, 0.55 * 72 * _ROW / count)
    for place, region in enumerate(order):
        color = region_color(region)
        for x, y, width, height in ((-0.5 - thick, place - 0.5, thick, 1.0), (place - 0.5, count - 0.5, 1.0, thick)):
            ax.add_patch(Rectangle((x, y), width, height, fc=color, ec="white", lw=0.5, clip_on=False))
            ax.text(x + width / 2, y + height / 2, str(region), ha="center", va="center_baseline", fontsize=size,
                    color=ink_on(color))  # fmt: skip


def _draw_norms(ax: Axes, layer: LayerStatistics) -> None:
    assert layer.filters is not None
    count = layer.num_regions
    size = min(8.0, 0.62 * 72 * _ROW / count)
    largest = max((norm for norm in layer.filter_norms if norm is not None), default=0) or 1
    ax.set(xlim=(0, 1.75 * largest), ylim=(count - 0.5, -0.5), xticks=[])
    ax.set_yticks(range(count), [str(j) for j in range(count)], fontsize=size)
    ax.tick_params(axis="y", length=0)
    ax.spines["bottom"].set_visible(False)
    ax.set_title("norm of each region's filter")
    ax.set_title("rank", loc="right")
    for j, (norm, rank) in enumerate(zip(layer.filter_norms, layer.filters.effective_ranks, strict=True)):
        occurs = layer.region_positions[j] > 0
        style: dict[str, Any] = {"va": "center_baseline", "fontsize": size, "color": "black" if occurs else "0.6"}
        ax.barh(j, norm or 0, height=0.62, color=region_color(j), alpha=1 if occurs else 0.35)
        words = "not finite" if norm is None else f"{norm:#.3g}".rstrip(".")
        ax.text((norm or 0) + 0.03 * largest, j, words, **style)
        ax.text(1.75 * largest, j, "-" if rank is None else f"{rank:.1f}", ha="right", **style)


def _draw_spectra(ax: Axes, layer: LayerStatistics) -> None:
    assert layer.filters is not None
    ax.set_title("singular values, over the largest")
    drawn = 0
    for j, spectrum in enumerate(layer.filters.singular_values):
        if not spectrum or spectrum[0] == 0:
            continue
        occurs = layer.region_positions[j] > 0
        # Not at every value: curves that run together are told apart by their marks.
        every = max(1, len(spectrum) // 6)
        ax.plot(range(1, len(spectrum) + 1), [value / spectrum[0] for value in spectrum], color=region_color(j), lw=1.1,
                marker=_MARKERS[j % len(_MARKERS)], ms=3.5, markevery=(j * every // 8 % every, every),
                alpha=1 if occurs else 0.35)  # fmt: skip
        drawn = max(drawn, len(spectrum))
    ax.set(ylim=(0, 1.05), xlim=(0.5 if drawn == 1 else 1 - 0.02 * drawn, max(1.5, drawn * 1.02)))
    ax.set_xticks(sorted({1, max(1, drawn // 2), max(1, drawn)}))
    ax.set_xlabel("number of the singular value", fontsize=8, color=_GREY)
