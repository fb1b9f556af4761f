"""How steady regions are over a clip, as a figure: a row per layer, over time and over the distance of frames."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drconv.analysis.stability import ClipStability, LayerStability
from drconv.errors import ArgumentError
from drconv.viz.inches import put_text
from drconv.viz.text import shortened, wrapped

__all__ = ["stability_figure"]

_STYLE: Any = {"font.family": ["sans-serif"], "font.size": 8.5, "text.usetex": False, "text.color": "black",
          "text.parse_math": False, "axes.linewidth": 0.5, "axes.spines.top": False, "axes.spines.right": False,
          "axes.grid": True, "grid.color": "0.92", "grid.linewidth": 0.5, "axes.axisbelow": True,
          "xtick.labelsize": 7.5, "ytick.labelsize": 7.5, "xtick.major.width": 0.5, "ytick.major.width": 0.5,
          "axes.labelsize": 8, "axes.labelcolor": "0.4"}  # fmt: skip
# Lengths are inches. Sizes of text are points.
_MARGIN, _TITLE, _KEY, _HEAD, _ROW, _GAP, _LINE = 0.3, 0.4, 0.3, 0.35, 1.25, 0.6, 0.18
_TIME_LEFT, _TIME_WIDTH, _LAG_LEFT, _LAG_WIDTH, _WIDTH = 0.5, 5.05, 6.45, 2.45, 9.2
_GREY, _TICKS = "0.4", (0, 0.25, 0.5, 0.75, 1)
_LINES: dict[str, dict[str, Any]] = {
    "as in the frame before": {"color": "black", "lw": 1.4},
    "by chance": {"color": "0.45", "lw": 1.1, "ls": "--"},
    "unchanged since the first frame": {"color": "#0072b2", "lw": 1.4, "ls": ":"},
}
_WHAT = ("Share of positions, in percent. By chance: what frames with the same shares of regions would have in common "
         "if their positions were shuffled. Above chance: (stability - chance) / (1 - chance). Regions are routing, "
         "not semantic segments.")  # fmt: skip


def stability_figure(clip: ClipStability, *, title: str, notes: Sequence[str] = ()) -> Figure:
    """Draw how many positions keep their region, from frame to frame and over several frames.

    Args:
        clip: of at least one layer and two frames.
        title: text at the top.
        notes: lines at the bottom.

    Returns:
        A figure with axes labelled `time` and `lags` for each layer, after one labelled `key`.

    Raises:
        ArgumentError: there is no layer, or only one frame.
    """
    if not clip.layers or len(clip.times) < 2:
        got = f"{len(clip.layers)} layers and {len(clip.times)} frames"
        raise ArgumentError(f"stability needs at least one layer and two frames, got {got}")
    inner = _WIDTH - 2 * _MARGIN
    lines = [line for note in (*notes, _WHAT) for line in wrapped(note, 0.96 * inner, 8.5)]
    height = _TITLE + _KEY + len(clip.layers) * (_HEAD + _ROW + _GAP) + _LINE * len(lines) + _MARGIN
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), dpi=200)
        put_text(figure, _MARGIN, height - 0.24, shortened(title, 0.96 * inner, 11, "bold"), fontsize=11, weight="bold")
        _draw_key(_axes(figure, _MARGIN, height - _TITLE, inner, _KEY, "key"))
        top = height - _TITLE - _KEY
        for layer in clip.layers:
            numbers = (
                f"stability {_percent(layer.mean_stability)}, by chance {_percent(layer.mean_chance)}, above chance "
                + ("unknown" if layer.above_chance is None else f"{layer.above_chance:z.2f}")
            )
            put_text(figure, _MARGIN, top - 0.15, shortened(layer.name, 0.46 * inner, 9, "bold"), fontsize=9,
                     weight="bold")  # fmt: skip
            put_text(figure, _WIDTH - _MARGIN, top - 0.15, numbers, ha="right", color=_GREY)
            _draw_times(_axes(figure, _TIME_LEFT + _MARGIN, top - _HEAD, _TIME_WIDTH, _ROW, "time"), clip.times, layer)
            _draw_lags(_axes(figure, _LAG_LEFT, top - _HEAD, _LAG_WIDTH, _ROW, "lags"), layer)
            top -= _HEAD + _ROW + _GAP
        for index, line in enumerate(lines):
            put_text(figure, _MARGIN, _MARGIN / 2 + _LINE * (len(lines) - index - 0.5), line, color=_GREY)
    return figure


def _axes(figure: Figure, left: float, top: float, width: float, height: float, label: str) -> Axes:
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, (top - height) / down, width / across, height / down), label=label)


def _draw_key(ax: Axes) -> None:
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.set_axis_off()
    for index, (label, style) in enumerate(_LINES.items()):
        left = 0.26 * index
        ax.plot((left, left + 0.04), (0.5, 0.5), **style)
        ax.text(left + 0.05, 0.5, label, va="center_baseline", fontsize=8)


def _draw_times(ax: Axes, times: Sequence[float], layer: LayerStability) -> None:
    for values, style in zip((layer.stability, layer.chance, layer.held), _LINES.values(), strict=True):
        known = [(time, value) for time, value in zip(times, values, strict=True) if value is not None]
        marker = "." if len(known) == 1 else None  # a line of one point would not be seen
        ax.plot(*zip(*known, strict=True), marker=marker, ms=4, **style)
    _frame(ax, "time of the frame, seconds")
    ax.set_xlim(times[0], times[-1] if times[-1] > times[0] else times[0] + 1)


def _draw_lags(ax: Axes, layer: LayerStability) -> None:
    lags = range(1, len(layer.lags) + 1)
    marker = "." if len(lags) < 12 else None
    for values, style in zip((layer.lags, layer.lag_chance), list(_LINES.values())[:2], strict=True):
        ax.plot(lags, values, marker=marker, ms=4, **style)
    _frame(ax, "frames apart")
    ax.set_xlim(0.5, len(lags) + 0.5)
    ax.set_xticks(sorted({1, (len(lags) + 1) // 2, len(lags)}))


def _frame(ax: Axes, label: str) -> None:
    ax.set(ylim=(-0.02, 1.04))
    ax.set_yticks(_TICKS, [f"{100 * tick:.0f}" for tick in _TICKS])
    ax.set_xlabel(label, labelpad=2)


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f} %"
