"""Photos and region maps at the few dots that a terminal has."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["map_thumbnail", "photo_thumbnail"]


def photo_thumbnail(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a photo at `size` (height, width), each dot the mean of the pixels below it.

    Args:
        pixels: `[H, W, 3]`.
        size: of the result.
    """
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BOX))


def map_thumbnail(guided_mask: NDArray[np.integer], size: tuple[int, int]) -> NDArray[np.integer]:
    """Return a map at `size` (height, width), each dot the region at its middle; regions are never mixed.

    Args:
        guided_mask: region of every position, `[U, V]`.
        size: of the result.
    """
    rows, columns = (
        ((np.arange(to) + 0.5) * of / to).astype(np.int64) for of, to in zip(guided_mask.shape, size, strict=True)
    )
    return guided_mask[np.ix_(rows, columns)]
