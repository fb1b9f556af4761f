"""Text and the key of region colours, placed in inches from the lower left corner of a figure."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from drconv.viz.palette import region_color
from drconv.viz.text import ink_on

__all__ = ["draw_key", "put_text"]


def put_text(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    """Write a line whose middle is at a height."""
    width, height = figure.get_size_inches()
    figure.text(x / width, y / height, text, va="center_baseline", **{"fontsize": 8.5, **style})


def draw_key(figure: Figure, left: float, bottom: float, count: int) -> None:
    """Draw a swatch with its number for each region, as wide as the figure allows."""
    width, height = figure.get_size_inches()
    put_text(figure, left, bottom + 0.1, "region", color="0.4")
    start = left + 0.5
    side = min(0.32, (width - left - start) / count)
    for j in range(count):
        color, x = region_color(j), start + j * side
        swatch = Rectangle((x / width, bottom / height), side / width, 0.2 / height, fc=color, ec="white", lw=0.5)
        figure.add_artist(swatch)
        style: dict[str, Any] = {"ha": "center", "color": ink_on(color), "fontsize": min(8.0, 40 * side)}
        put_text(figure, x + side / 2, bottom + 0.1, str(j), **style)
