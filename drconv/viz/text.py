"""Text that must fit: measured before it is drawn, without a renderer."""

import warnings
from collections.abc import Sequence

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

__all__ = ["ink_on", "percent", "shortened", "text_width", "wrapped"]


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Return how wide a line will be, in inches, in a font of `size` points."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter the font lacks is measured as the box that will be drawn
        font = FontProperties(family="sans-serif", size=size, weight=weight)
        return float(TextToPath().get_text_width_height_descent(text, font, ismath=False)[0]) / 72


def shortened(text: str, width: float, size: float, weight: str = "normal") -> str:
    """Return a line that fits into `width` inches, its middle cut out if need be."""
    text, keep = " ".join(text.split()), len(text)
    short = text
    while keep > 1 and (actual := text_width(short, size, weight)) > width:
        keep = min(keep - 1, int(len(short) * width / actual))
        short = f"{text[: keep - keep // 2]}…{text[len(text) - keep // 2 :]}"
    return short


def wrapped(text: str, width: float, size: float, weight: str = "normal") -> list[str]:
    """Return a text as lines that fit into `width` inches."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", size, weight) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(shortened(word, width, size, weight))
    return lines


def percent(share: float) -> str:
    """Return a share with one decimal, which never claims absence or totality by rounding."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    if 0.9995 <= share < 1:
        return ">99.9 %"
    return f"{100 * share:.1f} %" if share else "0 %"


def ink_on(color: Sequence[float]) -> str:
    """Return black or white, whichever reads better on a colour."""
    return "black" if 0.2126 * color[0] + 0.7152 * color[1] + 0.0722 * color[2] > 0.5 else "white"
