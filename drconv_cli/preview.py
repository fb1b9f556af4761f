"""`drconv visualize --preview`: photo and region maps in the terminal, two dots to a letter."""

from __future__ import annotations

from math import ceil
from operator import itemgetter
from typing import TYPE_CHECKING

from rich.color import Color, ColorSystem
from rich.console import Console
from rich.style import Style
from rich.text import Text

from drconv_cli.pictures import Measured
from drconv_cli.workers import Workers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drconv.analysis import LayerStatistics

__all__ = ["Previews", "preview_lines"]

_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
"""Of regions where there are no colours; what comes after them is `+`."""

_WIDEST = 64
"""Dots of one picture, however wide the terminal is; more is slower to read and not clearer."""

_MOST = 16
"""Images that have a preview."""

_HALF = "▀"


class Previews:
    """What `--preview` shows when all images are done, so that it does not get into the progress bar.

    It goes to stderr, because stdout carries data.

    Args:
        asked: whether there is anything to show.
    """

    def __init__(self, asked: bool) -> None:
        self._console = Console(stderr=True, highlight=False) if asked else None
        self._shown: list[tuple[int, list[Text]]] = []
        self._left_out = 0

    def add(self, index: int, name: str, measured: Measured) -> None:
        """Prepare one image; index is its place among all."""
        if self._console is None:
            return
        if len(self._shown) == _MOST:
            self._left_out += 1
        else:
            self._shown.append((index, preview_lines(name, measured, self._console)))

    def gather(self, team: Workers) -> None:
        """Take over what other processes prepared."""
        if self._console is not None:
            for shown, left_out in team.gather((self._shown, self._left_out))[1:]:
                self._shown += shown
                self._left_out += left_out

    def show(self) -> None:
        """Print to stderr."""
        if self._console is None:
            return
        shown = sorted(self._shown, key=itemgetter(0))
        for _, lines in shown[:_MOST]:
            for line in lines:
                self._console.print(line, soft_wrap=True)
        if left_out := self._left_out + len(shown[_MOST:]):
            self._console.print(f"{left_out} more images have no preview", soft_wrap=True)


def preview_lines(name: str, measured: Measured, console: Console) -> list[Text]:
    """Return the photo beside the region map of each layer, and below them what the colours stand for.

    Where the console has too few colours to tell the regions apart, or no half blocks, a map is made of the regions'
    numbers (letters after 9), and there is no photo.

    Args:
        name: of the photo, shown as it is.
        measured: what the model did with it.
        console: that will show the lines; they fit its width.
    """
    height, width = measured.image.pixels.shape[:2]
    most = max(layer.num_regions for layer in measured.statistics.layers)
    colored = _can_show(console, most)
    across = max(4, min(_WIDEST, (console.width - 2) // 2 if colored else console.width))
    tall = max(2, min(2 * max(4, console.height - 8), round(across * height / width)))
    across = max(2, min(across, round(tall * width / height)))
    lines = []
    for layer in measured.statistics.layers:
        mask = measured.guided_masks[layer.name]
        grid = f"{layer.grid[0]}x{layer.grid[1]} positions"
        # Without half blocks a letter is twice as high as it is wide.
        size = (tall + tall % 2, across) if colored else (max(1, tall // 2), across)
        if layer.grid[0] > size[0] or layer.grid[1] > size[1]:
            grid += f", {size[0]}x{size[1]} of them shown"
        lines.append(_cut(f"{name}  {layer.name}  {grid}", console.width, "bold"))
        lines += _blocks(measured, mask, size) if colored else _digits(mask, size)
        lines += [*_legend(layer, colored, console.width), Text()]
    lines.append(_cut("Regions are routing, not semantic segments; numbers and colours are arbitrary.", console.width))
    return lines


def _can_show(console: Console, num_regions: int) -> bool:
    """Return whether half blocks can be written, and so many regions have colours of their own."""
    from drconv.viz import region_color

    names = {"truecolor": ColorSystem.TRUECOLOR, "256": ColorSystem.EIGHT_BIT}
    system = names.get(console.color_system or "")
    if system is None:
        return False
    try:
        _HALF.encode(console.encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    shown = {_color(region_color(j)).downgrade(system) for j in range(num_regions)}
    return len(shown) == num_regions


def _color(values: tuple[float, float, float]) -> Color:
    return Color.from_rgb(*(round(255 * value) for value in values))


def _blocks(measured: Measured, mask: NDArray[np.integer], size: tuple[int, int]) -> list[Text]:
    from drconv.viz import map_thumbnail, photo_thumbnail, region_color

    photo, regions = photo_thumbnail(measured.image.pixels, size), map_thumbnail(mask, size)
    colors = {int(j): _color(region_color(int(j))) for j in set(regions.ravel().tolist())}
    lines = []
    for y in range(0, size[0], 2):
        line = Text(no_wrap=True)
        for x in range(size[1]):
            above, below = (Color.from_rgb(*map(int, photo[y + i, x])) for i in (0, 1))
            line.append(_HALF, Style(color=above, bgcolor=below))
        line.append("  ")
        for x in range(size[1]):
            above, below = (colors[int(regions[y + i, x])] for i in (0, 1))
            line.append(_HALF, Style(color=above, bgcolor=below))
        lines.append(line)
    return lines


def _digits(mask: NDArray[np.integer], size: tuple[int, int]) -> list[Text]:
    from drconv.viz import map_thumbnail

    return [Text("".join(map(_letter, row)), no_wrap=True) for row in map_thumbnail(mask, size).tolist()]


def _letter(region: int) -> str:
    return _LETTERS[region] if region < len(_LETTERS) else "+"


def _legend(layer: LayerStatistics, colored: bool, width: int) -> list[Text]:
    """Return swatch, number and share of each region, in as many lines as it takes, all about equally long."""
    from drconv.viz import region_color
    from drconv.viz.text import percent

    names, shares = _names(layer.num_regions, colored), [percent(share) for share in layer.region_share]
    widths = max(map(len, names)), max(map(len, shares))
    entries = []
    for j, (name, share) in enumerate(zip(names, shares, strict=True)):
        entry = Text("  ", Style(bgcolor=_color(region_color(j)))) if colored else Text()
        entry = Text.assemble(entry, f"{name:{'>' if colored else '<'}{widths[0]}} ")
        # A region that does not occur is faint.
        entries.append(entry.append(share.rjust(widths[1]), "" if layer.region_share[j] else "dim"))
    between = Text("  ")
    fitting = max(1, (width + between.cell_len) // (entries[0].cell_len + between.cell_len))
    each = ceil(len(entries) / ceil(len(entries) / fitting))
    return [between.join(entries[start : start + each]) for start in range(0, len(entries), each)]


def _names(num_regions: int, colored: bool) -> list[str]:
    """Return what stands before the shares."""
    if colored:
        return [f" {j}" for j in range(num_regions)]
    letters = [_letter(j) for j in range(num_regions)]
    return [f"{x}:" if x == str(j) else f"{x}=region {j}:" for j, x in enumerate(letters)]


def _cut(text: str, width: int, style: str = "") -> Text:
    line = Text(text, style, no_wrap=True)
    line.truncate(width, overflow="ellipsis")
    return line
