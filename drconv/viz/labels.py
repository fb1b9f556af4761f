"""Maps of classes from files: one integer per pixel, as the masks of VOC, COCO-Stuff and Cityscapes have."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drconv.errors import FileError
from drconv.viz.image import opened_image

__all__ = ["load_labels"]

_MODES = {"1", "L", "P", "I", "I;16"}


def load_labels(path: Path) -> NDArray[np.integer[Any]]:
    """Read an image whose pixel values are classes.

    Args:
        path: of a file with one channel: a palette image (its indices count, not its colours), 1, 8, 16 or 32 bits.

    Returns:
        Classes, `[H, W]`, as they are in the file.

    Raises:
        FileError: the file cannot be read, or has more than one channel.

    Example:
        >>> load_labels(Path("2007_000033.png")).shape
        (366, 500)
    """
    with opened_image(Path(path)) as image:
        if image.mode not in _MODES:
            raise FileError(
                f"labels must have one channel whose values are classes, got {path} of mode {image.mode}; convert its "
                "colours to indices first"
            )
        values = np.asarray(image)
    return values.astype(np.uint8) if values.dtype == bool else values
