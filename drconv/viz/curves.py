"""The log of a training run as a figure: loss, accuracy, learning rate, and how many regions are in use."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from drconv.errors import ArgumentError
from drconv.viz.palette import region_color

__all__ = ["curves_figure"]

_STYLE: Any = {"font.family": ["sans-serif"], "font.size": 9, "text.usetex": False, "text.parse_math": False,
          "axes.grid": True, "grid.color": "0.9", "axes.axisbelow": True, "axes.spines.top": False,
          "axes.spines.right": False, "legend.frameon": False, "axes.titlesize": 9, "axes.titlelocation": "left",
          "lines.linewidth": 1.5}  # fmt: skip


def curves_figure(history: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Draw the records of a log, one point per epoch.

    Args:
        history: records as `drconv train` writes them into log.jsonl, at least one.
        title: text at the top.

    Returns:
        A figure. Saving it needs no display. The panel of regions is there only for models that have some: the number
        of equally used regions that each layer comes to, from the first layer (light) to the last (dark).

    Raises:
        ArgumentError: there is no record.
    """
    if not history:
        raise ArgumentError("there is nothing to draw: the log has no epoch")
    epochs = [record["epoch"] for record in history]
    layers = [layer["name"] for layer in history[-1]["regions"]]
    with mpl.rc_context(_STYLE):
        panels = 4 if layers else 3
        figure = Figure(figsize=(9.0, 5.4) if layers else (10.5, 3.0), dpi=160, layout="constrained")
        grid = figure.subplots(*((2, 2) if layers else (1, panels)), squeeze=False).flatten()
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        _pair(grid[0], epochs, history, "loss", "Cross-entropy (nats per image)")
        _pair(grid[1], epochs, history, "top1", "Top-1 accuracy")
        grid[1].yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        grid[1].set_ylim(0, 1)
        grid[2].plot(epochs, [record["learning_rate"] for record in history], marker=_marker(epochs), color="0.3")
        grid[2].set_title("Learning rate at the epoch's end")
        grid[2].set_ylim(bottom=0)
        if layers:
            _regions(grid[3], epochs, history, layers)
        for axes in grid:
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
            if len(epochs) > 1:
                axes.set_xlim(epochs[0], epochs[-1])
            # Points on the frame, such as the last epoch or 0 %, are drawn whole.
            for line in axes.lines:
                line.set_clip_on(False)
    return figure


def _marker(epochs: Sequence[int]) -> str:
    return "o" if len(epochs) <= 12 else ""


def _pair(axes: Axes, epochs: Sequence[int], history: Sequence[Mapping[str, Any]], key: str, title: str) -> None:
    for index, (part, label) in enumerate((("train", "training"), ("validation", "validation"))):
        values = [float("nan") if record[part][key] is None else record[part][key] for record in history]
        style = "--" if part == "train" else "-"
        axes.plot(epochs, values, style, label=label, marker=_marker(epochs), markersize=4, color=region_color(index))
    axes.set_title(title)
    axes.set_ylim(bottom=0)
    axes.legend()


def _regions(axes: Axes, epochs: Sequence[int], history: Sequence[Mapping[str, Any]], layers: Sequence[str]) -> None:
    colors = mpl.colormaps["viridis_r"]
    for index, name in enumerate(layers):
        found = [{layer["name"]: layer["effective_regions"] for layer in record["regions"]} for record in history]
        place = 0.1 + 0.9 * index / max(1, len(layers) - 1)
        ends = f"{name} (first)" if index == 0 else f"{name} (last)" if index == len(layers) - 1 else None
        values = [record.get(name, float("nan")) for record in found]
        axes.plot(epochs, values, color=colors(place), marker=_marker(epochs), markersize=3, linewidth=1.0, label=ends)
    most = max(layer["num_regions"] for layer in history[-1]["regions"])
    dead = sum(len(layer["dead"]) for layer in history[-1]["regions"])
    total = sum(layer["num_regions"] for layer in history[-1]["regions"])
    axes.set_title(f"Regions in use, per layer; at the end {dead} of {total} dead")
    axes.set_ylim(0, most + 0.2)
    axes.legend(fontsize=7)
