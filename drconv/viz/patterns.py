"""One hatch per region index, so that regions can be told apart where colours are lost, as in print."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from drconv.viz.palette import region_color
from drconv.viz.text import ink_on

__all__ = ["draw_patterns", "region_pattern"]

# Plain, lines, crossed lines and marks, then marks on lines; neighbours in this order differ in direction or kind.
_PATTERNS = ("", "///", "...", "|||", "xxx", "---", "ooo", "\\\\\\", "+++", "OO", "**", "///...", "|||oo", "---...",
             "\\\\\\OO", "xxxoo")  # fmt: skip


def region_pattern(index: int) -> str:
    """Return the hatch of a region, in matplotlib's letters; that of region 16 is that of region 0.

    Args:
        index: of the region, from 0.
    """
    return _PATTERNS[index % len(_PATTERNS)]


def draw_patterns(ax: Axes, guided_mask: NDArray[np.integer[Any]]) -> None:
    """Draw the hatch of every position over a map in the colours of regions, positions being units of the axes.

    Args:
        ax: with the map on it.
        guided_mask: region of every position, `[U, V]`.
    """
    for region in np.unique(guided_mask).tolist():
        if not region_pattern(region):
            continue
        # Runs of one row at a time: the hatch is tied to the page, and goes on from run to run.
        edges = np.diff(np.pad((guided_mask == region).astype(np.int8), ((0, 0), (1, 1))), axis=1)
        starts, stops = np.argwhere(edges == 1), np.argwhere(edges == -1)
        corners = [
            ((x, y), (x_end, y), (x_end, y + 1), (x, y + 1), (x, y))
            for (y, x), (_, x_end) in zip(starts.tolist(), stops.tolist(), strict=True)
        ]
        codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(corners)
        path = Path(np.array(corners, dtype=np.float64).reshape(-1, 2), codes)
        ink = ink_on(region_color(region))
        ax.add_patch(PathPatch(path, fc="none", ec=ink, lw=0, hatch=region_pattern(region)))
