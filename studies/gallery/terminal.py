"""What a command writes to a terminal with 24-bit colours, as a picture: a grid of cells, half blocks to the pixel."""

import re
from pathlib import Path

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont
from rich.color import Color
from rich.console import Console
from rich.text import Text

__all__ = ["THEMES", "draw_terminal", "printed"]

THEMES = {"light": ("#ffffff", "#1f2328"), "dark": ("#0d1117", "#e6edf3")}
"""Paper and ink."""

_POINTS, _PADDING = 15, 12
_FONTS = Path(mpl.get_data_path()) / "fonts" / "ttf"
_CONSOLE = Console()

_Cell = tuple[str, str, str, bool]
"""Letter, its colour, the colour behind it, whether it is bold."""


def printed(raw: str) -> list[str]:
    """Return the lines that stay, with their colours; what a progress bar wrote and erased again is left out."""
    lines = []
    for line in raw.split("\n"):
        _, *rewritten = line.split("\x1b[2K")
        if rewritten and "\x1b[1A" in line and lines:
            lines.pop()
        last = re.sub(r"\x1b\[\?25[lh]|\x1b\[\d*A|\r", "", rewritten[-1] if rewritten else line)
        lines.append(last)
    while lines and not lines[-1]:
        lines.pop()
    return lines


def draw_terminal(lines: list[str], columns: int, theme: str) -> Image.Image:
    """Draw lines with colour codes, those that are too long wrapped as terminals do.

    Args:
        lines: as `printed` returns them.
        columns: width of the terminal.
        theme: of `THEMES`.
    """
    paper, ink = THEMES[theme]
    fonts = [ImageFont.truetype(_FONTS / f"{name}.ttf", _POINTS) for name in ("DejaVuSansMono", "DejaVuSansMono-Bold")]
    across = round(fonts[0].getlength("0"))
    down = 2 * across  # so that half a cell is square
    rows = [
        cells[start : start + columns]
        for cells in (_cells(line, paper, ink) for line in lines)
        for start in range(0, max(1, len(cells)), columns)
    ]
    image = Image.new("RGB", (across * columns + 2 * _PADDING, down * len(rows) + 2 * _PADDING), paper)
    pen = ImageDraw.Draw(image)
    for i, row in enumerate(rows):
        for j, (letter, front, back, bold) in enumerate(row):
            x, y = _PADDING + j * across, _PADDING + i * down
            pen.rectangle((x, y, x + across - 1, y + down - 1), fill=back)
            if letter == "▀":
                pen.rectangle((x, y, x + across - 1, y + across - 1), fill=front)
            else:
                pen.text((x, y + across), letter, fill=front, font=fonts[bold], anchor="lm")
    return image


def _cells(line: str, paper: str, ink: str) -> list[_Cell]:
    cells = []
    for segment in Text.from_ansi(line, end="").render(_CONSOLE):
        style = segment.style
        front = _hex(style.color if style else None, ink)
        back = _hex(style.bgcolor if style else None, paper)
        if style and style.dim:
            front = _mixed(front, paper)
        cells += [(letter, front, back, bool(style and style.bold)) for letter in segment.text]
    return cells


def _hex(color: Color | None, default: str) -> str:
    return default if color is None or color.is_default else color.get_truecolor().hex


def _mixed(front: str, paper: str) -> str:
    """Return the colour half way, which is what terminals make of faint text."""
    parts = [(int(front[i : i + 2], 16) + int(paper[i : i + 2], 16)) // 2 for i in (1, 3, 5)]
    return "#" + "".join(f"{part:02x}" for part in parts)
