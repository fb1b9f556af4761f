"""What a page holds: the photo, the maps as compressed bytes, and the numbers as text."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import Any
from zlib import compress

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drconv.analysis.statistics import LayerStatistics
from drconv.version import __version__
from drconv.viz.page.classes import class_table
from drconv.viz.page.numbers import layer_facts, nearest_filters, region_columns, share_text
from drconv.viz.palette import region_color

__all__ = ["MOST_LAYERS", "MOST_POSITIONS", "MOST_REGIONS", "page_content", "plain"]

MOST_LAYERS, MOST_REGIONS, MOST_POSITIONS = 64, 256, 2**21
"""A page holds no more; the last is of all layers together."""

_MOST_PIXELS = 1600
"""Longer side of the photo."""

_STEPS, _UNKNOWN = 10_000, 65_535
"""A margin is kept in 10,000ths, which are the 4 decimals that are shown."""

_SHADES = 33
"""Colours between the smallest and the largest margin."""

_Layer = tuple[LayerStatistics, NDArray[Any], NDArray[Any]]


def page_content(pixels: NDArray[np.uint8], layers: Sequence[_Layer]) -> dict[str, Any]:
    """Return what the template is filled with.

    Args:
        pixels: photo, `[H, W, 3]`.
        layers: statistics, guided mask and margins of each, `[U, V]`.
    """
    shown = [_layer(*layer) for layer in layers]
    colors = [region_color(j) for j in range(max(layer.num_regions for layer, *_ in layers))]
    scale = [_hex(color[:3]) for color in mpl.colormaps["cividis"](np.linspace(0, 1, _SHADES))]
    return {
        "version": __version__,
        "photo": _photo(pixels),
        "layers": shown,
        "colors": [_hex(color) for color in colors],
        "scale": scale,
        # What the script needs; the rest is in the page's own text.
        "data": {
            "colors": [_hex(color) for color in colors],
            "scale": scale,
            "inks": [_ink(color) for color in colors],
            "layers": [
                {
                    **{key: layer[key] for key in ("name", "rows", "columns", "texts", "nearest")},
                    **_packed(mask, margins),
                }
                for layer, (_, mask, margins) in zip(shown, layers, strict=True)
            ],
        },
    }


def plain(text: str) -> str:
    """Return a text that any file takes: no control characters, nothing that UTF-8 lacks."""
    return "".join(letter if letter.isprintable() else "�" if letter != "\n" else " " for letter in text)


def _layer(layer: LayerStatistics, mask: NDArray[Any], margins: NDArray[Any]) -> dict[str, Any]:
    columns = region_columns(layer)
    return {
        "name": plain(layer.name),
        "rows": layer.grid[0],
        "columns": layer.grid[1],
        "verdict": plain(layer.verdict.removeprefix(f"{layer.name}: ")),
        "unscored": layer.unscored > 0,
        "facts": layer_facts(layer),
        "headings": [(column.name, column.meaning) for column in columns],
        "texts": [list(row) for row in zip(*(column.texts for column in columns), strict=True)],
        "shares": [share_text(share) for share in layer.region_share],
        "occurs": [count > 0 for count in layer.region_positions],
        "nearest": nearest_filters(layer),
        "classes": class_table(layer),
    }


def _photo(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    image = Image.fromarray(pixels)
    image.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    file = BytesIO()
    image.save(file, "JPEG", quality=90)
    return {
        "uri": f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}",
        "width": image.width,
        "height": image.height,
        "seen": f"{pixels.shape[0]} × {pixels.shape[1]}",  # noqa: RUF001
    }


def _packed(mask: NDArray[Any], margins: NDArray[Any]) -> dict[str, str]:
    """Return bytes of the regions, and little-endian 16-bit margins, both compressed by zlib."""
    known = np.isfinite(margins)
    steps = np.rint(np.where(known, margins, 0).clip(0, 1) * _STEPS).astype("<u2")
    steps[~known] = _UNKNOWN
    parts = {"regions": mask.astype(np.uint8), "margins": steps}
    return {name: b64encode(compress(part.tobytes(), 9)).decode() for name, part in parts.items()}


def _hex(color: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * value):02x}" for value in color)


def _ink(color: Sequence[float]) -> str:
    """Return black or white, whichever has the larger contrast to a colour by WCAG 2.2."""
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in color)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#fff"
