"""A profile as a figure for a paper: times over those of `nn.Conv2d`, with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from drconv.analysis.profile import CandidateProfile, ProfileReport, ProfileSweep
from drconv.analysis.profile.report import environment_line
from drconv.analysis.profile.sweep import words
from drconv.errors import ArgumentError
from drconv.viz.palette import region_color
from drconv.viz.text import wrapped

__all__ = ["profile_figure"]

_STYLE: Any = {"font.family": ["sans-serif"], "font.size": 9, "text.usetex": False, "text.parse_math": False,
          "axes.grid": True, "grid.color": "0.9", "axes.axisbelow": True, "axes.spines.top": False,
          "axes.spines.right": False, "legend.frameon": False, "svg.hashsalt": "drconv"}  # fmt: skip
_MARKERS = "osD^vP*X"
_MOST_LINES = 8
_MOST_BARS = 60
_WIDE = 3.0
"""Largest over smallest value from which an axis is logarithmic."""
_TICKS = (0.1, 0.2, 0.5, 1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 200, 500, 1000)


@dataclass(frozen=True)
class _Value:
    """A ratio with its interval."""

    ratio: float
    low: float
    high: float

    @classmethod
    def of(cls, candidate: CandidateProfile) -> "_Value | None":
        if candidate.to_conv2d is None or candidate.candidate == "conv2d":
            return None
        ratio, interval = candidate.to_conv2d.median, candidate.to_conv2d.interval
        low, high = interval or (ratio, ratio)
        return cls(ratio, low, high)


_Series = dict[str, dict[int, _Value]]
"""Label of a line, or of a colour of bars -> position along x -> value."""


def profile_figure(profile: ProfileReport | ProfileSweep) -> Figure:
    """Draw the time of every dynamic candidate over that of `nn.Conv2d` in its faster layout.

    Of a sweep, lines over its last axis, one for each candidate and combination of the other axes; of a profile, bars
    for each target. Error bars are the 95 % intervals of the medians.

    Args:
        profile: with at most 8 lines, or 60 bars.

    Returns:
        A figure. Saving it needs no display.

    Raises:
        ArgumentError: nothing was timed beside `nn.Conv2d`, or there is too much to tell apart.
    """
    series, names, axis = _of_sweep(profile) if isinstance(profile, ProfileSweep) else _of_targets(profile)
    values = [value for line in series.values() for value in line.values()]
    if not values:
        raise ArgumentError("a plot needs a candidate that was timed beside nn.Conv2d, got none")
    with mpl.rc_context(_STYLE):
        is_sweep = isinstance(profile, ProfileSweep)
        width = 5.2 if is_sweep else min(11.0, max(5.2, 1.2 + 0.28 * len(series) * len(names)))
        caption = "\n".join(wrapped(_caption(profile), width - 0.3, 6.5))
        rows = (len(series) + 2) // 3
        figure = Figure(figsize=(width, 3.1 + 0.18 * rows), dpi=200, layout="constrained")
        axes = figure.add_subplot()
        (_draw_lines if is_sweep else _draw_bars)(axes, series, names)
        axes.axhline(1, color="0.25", linewidth=1, zorder=1.5, label="nn.Conv2d, faster layout")
        axes.set_xlabel(axis)
        axes.set_ylabel("time / time of nn.Conv2d")
        _scale(axes, values)
        figure.suptitle("\n".join(wrapped(_title(profile), width - 0.3, 9.5)), x=0.01, ha="left", fontsize=9.5)
        _legend(axes)
        figure.supxlabel(caption, x=0.01, ha="left", fontsize=6.5, color="0.4")
    return figure


def _of_sweep(sweep: ProfileSweep) -> tuple[_Series, list[Any], str]:
    *others, axis = sweep.axes
    names = list(dict.fromkeys(point.settings[-1] for point in sweep.points))
    series: _Series = {}
    for point in sweep.points:
        setting = ", ".join(f"{name} = {words(value)}" for name, value in zip(others, point.settings, strict=False))
        for candidate in point.target.candidates:
            value = _Value.of(candidate)
            if value is not None:
                label = ", ".join(filter(None, (candidate.label, setting)))
                series.setdefault(label, {})[names.index(point.settings[-1])] = value
    if len(series) > _MOST_LINES:
        raise ArgumentError(
            f"a plot holds at most {_MOST_LINES} lines, got {len(series)} candidates and combinations of "
            f"{', '.join(others) or 'settings'}; name fewer with --backend and --layout, or sweep over less"
        )
    return series, names, _AXES.get(axis, axis)


_AXES = {"size": "size of the map (pixels)", "batch": "batch", "in": "input channels", "out": "output channels",
         "regions": "regions", "kernel": "kernel", "threads": "threads", "maps": "region map",
         "occurring": "regions that occur in a sample"}  # fmt: skip


def _of_targets(report: ProfileReport) -> tuple[_Series, list[Any], str]:
    series: _Series = {}
    for index, target in enumerate(report.targets):
        for candidate in target.candidates:
            value = _Value.of(candidate)
            if value is not None:
                series.setdefault(candidate.label, {})[index] = value
    bars = len(series) * len(report.targets)
    if bars > _MOST_BARS:
        raise ArgumentError(
            f"a plot holds at most {_MOST_BARS} bars, got {bars}; name fewer candidates with --backend and --layout, "
            "and leave --every-layer out"
        )
    names = [
        target.shape.replace(" @ ", "\n") + (f"\n(x{len(target.members)})" if len(target.members) > 1 else "")
        if target.name != "network"
        else "network"
        for target in report.targets
    ]
    return series, names, ""


def _draw_lines(axes: Axes, series: _Series, names: Sequence[Any]) -> None:
    numeric = all(isinstance(name, int | float) and name > 0 for name in names)
    along = [float(name) for name in names] if numeric else list(map(float, range(len(names))))
    if numeric and max(along) >= _WIDE * min(along):
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    # One colour and marker for a candidate, hollow and dashed where it is timed on channels_last.
    kinds = list(dict.fromkeys(map(_without_layout, series)))
    for label, line in series.items():
        index, is_last = kinds.index(_without_layout(label)), "channels_last" in label and len(kinds) < len(series)
        x = [along[i] for i in sorted(line)]
        values = [line[i] for i in sorted(line)]
        axes.errorbar(
            x, [v.ratio for v in values], yerr=_errors(values), label=label, color=region_color(index),
            marker=_MARKERS[index], markersize=4.5, linewidth=1.4, capsize=2.5, elinewidth=1,
            linestyle="--" if is_last else "-", markerfacecolor="white" if is_last else region_color(index),
        )  # fmt: skip
    axes.set_xticks(along, [words(name) for name in names])


def _draw_bars(axes: Axes, series: _Series, names: Sequence[Any]) -> None:
    width = 0.8 / len(series)
    for index, (label, bars) in enumerate(series.items()):
        x = [i - 0.4 + (index + 0.5) * width for i in bars]
        values = list(bars.values())
        # From the line of nn.Conv2d on: a logarithmic axis has no zero to grow from.
        heights = [v.ratio - 1 for v in values]
        axes.bar(
            x, heights, width * 0.92, bottom=1, yerr=_errors(values), label=label, color=region_color(index),
            error_kw={"elinewidth": 0.8, "ecolor": "0.15", "capsize": 1.5},
        )  # fmt: skip
    axes.set_xticks(range(len(names)), names, fontsize=7)
    axes.grid(False, axis="x")


def _legend(axes: Axes) -> None:
    """Put the legend above the axes, read row by row though matplotlib fills column by column."""
    handles, labels = axes.get_legend_handles_labels()
    found, columns = list(zip(handles, labels, strict=True)), 3
    order = [i for column in range(columns) for i in range(column, len(found), columns)]
    axes.legend(
        [found[i][0] for i in order], [found[i][1] for i in order], ncols=columns, fontsize=7.5, handlelength=2.4,
        loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2,
    )  # fmt: skip


def _without_layout(label: str) -> str:
    return label.replace(" channels_last", "").replace(" NCHW", "")


def _errors(values: Sequence[_Value]) -> list[list[float]]:
    return [[v.ratio - v.low for v in values], [v.high - v.ratio for v in values]]


def _scale(axes: Axes, values: Sequence[_Value]) -> None:
    """Make the axis of ratios logarithmic where they differ widely, with ticks that are plain numbers."""
    low, high = min(1.0, *(v.low for v in values)), max(1.0, *(v.high for v in values))
    if high < _WIDE * low:
        axes.set_ylim(0, 1.08 * high)
        return
    axes.set_yscale("log")
    axes.set_ylim(low / 1.25, high * 1.15)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticks([tick for tick in _TICKS if low / 1.25 <= tick <= high * 1.15])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _title(profile: ProfileReport | ProfileSweep) -> str:
    return profile.subject if isinstance(profile, ProfileSweep) else profile.title


def _caption(profile: ProfileReport | ProfileSweep) -> str:
    first = profile.points[0].report if isinstance(profile, ProfileSweep) else profile
    passes = {"forward": "forward pass", "backward": "backward pass", "step": "training step"}
    return (
        f"{passes[first.which]}, {first.dtype}; medians of per-round ratios, bars: 95 % intervals. "
        f"{environment_line(profile.environment)}"
    )
