"""A sweep of counts as a figure: multiply-adds over one setting, a line for each combination of the others."""

from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drconv.analysis.flops import SweepReport
from drconv.errors import ArgumentError
from drconv.viz.palette import region_color

__all__ = ["sweep_figure"]

_STYLE: Any = {"font.family": ["sans-serif"], "font.size": 9, "text.usetex": False, "text.parse_math": False,
          "axes.grid": True, "grid.color": "0.9", "axes.axisbelow": True, "axes.spines.top": False,
          "axes.spines.right": False, "legend.frameon": False}  # fmt: skip
_MARKERS = "osD^vP*X"
_MOST_LINES = 8


def sweep_figure(report: SweepReport, *, title: str) -> Figure:
    """Draw multiply-adds per image: theory as full lines, executed as dashed ones where it differs.

    The last axis of the sweep runs along the x axis, evenly spaced; each combination of the others is a line.

    Args:
        report: with at most 8 lines.
        title: text at the top.

    Returns:
        A figure. Saving it needs no display.

    Raises:
        ArgumentError: there would be too many lines to tell apart.
    """
    *others, axis = report.axes
    lines: dict[tuple[Any, ...], list[tuple[Any, int, int]]] = {}
    for point in report.points:
        lines.setdefault(point.settings[:-1], []).append((point.settings[-1], point.madds, point.executed))
    if len(lines) > _MOST_LINES:
        raise ArgumentError(
            f"a plot holds at most {_MOST_LINES} lines, got {len(lines)} combinations of {', '.join(others)}; put the "
            "axis with most values last, or sweep over less"
        )
    with mpl.rc_context(_STYLE):
        height = 2.9 + 0.18 * len(lines)  # the plot, and a row of the legend for each combination
        figure = Figure(figsize=(5.2, height), dpi=200, layout="constrained")
        axes = figure.add_subplot()
        for index, (settings, values) in enumerate(lines.items()):
            label = ", ".join(f"{name} = {value}" for name, value in zip(others, settings, strict=True))
            _line(axes, index, label, values)
        names = [str(value) for value, _, _ in next(iter(lines.values()))]
        axes.set_xticks(range(len(names)), names)
        axes.set_xlabel(axis)
        axes.set_ylabel("MAdds per image (millions)")
        axes.set_ylim(0, 1.06 * max(max(p.madds, p.executed) for p in report.points) / 1e6 or 1)
        axes.set_title(title, loc="left", fontsize=9)
        # Columns are filled first: theory on the left, executed on the right.
        handles = sorted(axes.lines, key=lambda line: not str(line.get_label()).endswith("theory"))
        if len(handles) > 1:
            figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8, handlelength=3.2)
    return figure


def _line(axes: Axes, index: int, label: str, values: list[tuple[Any, int, int]]) -> None:
    color = region_color(index)
    theory, executed = ([value[i] / 1e6 for value in values] for i in (1, 2))
    style: dict[str, Any] = {"color": color, "marker": _MARKERS[index], "markersize": 5, "linewidth": 1.5}
    axes.plot(range(len(values)), theory, label=f"{label}: theory" if label else "theory", **style)
    if executed != theory:
        hollow = {**style, "markerfacecolor": "white", "linestyle": "--"}
        axes.plot(range(len(values)), executed, label=f"{label}: executed" if label else "executed", **hollow)
