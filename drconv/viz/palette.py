"""One fixed colour per region index, told apart with normal and with colour-blind vision."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["region_color", "region_colors"]

# Okabe and Ito's palette, which is safe for colour blindness. Their black turns to mud when it is translucent over a
# photo, so Paul Tol's wine takes its place. Neighbours in this order differ in hue and in lightness.
_BASE = ("0072b2", "e69f00", "009e73", "cc79a7", "56b4e9", "d55e00", "f0e442", "882255")

_DARK = 0.4  # luma below which the second series is lighter, above which it is darker
_TOWARDS_WHITE = 0.6
_TOWARDS_BLACK = 0.55


def region_color(index: int) -> tuple[float, float, float]:
    """Return the sRGB colour of a region, each value 0 to 1.

    Regions 0 to 7 have a hue each. Regions 8 to 15 have the same hues again, dark ones lightened and light ones
    darkened. Region 16 looks like region 0, and so on; there the number must tell regions apart.

    Args:
        index: of the region, from 0.

    Example:
        >>> region_color(1) == region_color(17)
        True
    """
    base = _BASE[index % len(_BASE)]
    red, green, blue = (int(base[i : i + 2], 16) / 255 for i in (0, 2, 4))
    if index // len(_BASE) % 2 == 0:
        return red, green, blue
    if 0.2126 * red + 0.7152 * green + 0.0722 * blue < _DARK:
        keep, add = 1 - _TOWARDS_WHITE, _TOWARDS_WHITE
    else:
        keep, add = 1 - _TOWARDS_BLACK, 0.0
    return red * keep + add, green * keep + add, blue * keep + add


def region_colors(count: int) -> NDArray[np.float64]:
    """Return the colours of regions 0 to `count - 1`, `[count, 3]`."""
    return np.array([region_color(index) for index in range(count)], dtype=np.float64).reshape(count, 3)
