"""From a picture in memory to levels, and the crop of an image that is judged rather than learnt from."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["levels_of", "middle_of"]

_KEPT = 0.875
"""Share of the shorter side that the middle crop shows: the 224 of 256 pixels of the usual ImageNet evaluation."""


def levels_of(image: Image.Image) -> Tensor:
    """Return the levels of an RGB picture, 0 to 1, `[3, H, W]`."""
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).float() / 255


def middle_of(image: Image.Image, size: int) -> Tensor:
    """Return the middle of an RGB picture, 0.875 of its shorter side wide, as levels, `[3, size, size]`."""
    side = min(image.size) * _KEPT
    left, top = ((length - side) / 2 for length in image.size)
    box = (left, top, left + side, top + side)
    return levels_of(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
