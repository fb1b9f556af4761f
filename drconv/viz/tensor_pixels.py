"""From a tensor as a model takes it back to pixels that people can look at."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drconv.viz.image import IMAGENET

__all__ = ["pixels_of"]


@torch.no_grad()
def pixels_of(tensor: Tensor) -> tuple[NDArray[np.uint8], str]:
    """Return a photo of an input, and a line that says how it was made.

    With 1 or 3 channels the mean and deviation of ImageNet are undone, as `load_image` applied them; other numbers of
    channels are shown as the gray of their mean, from the smallest to the largest finite value.

    Args:
        tensor: floats, `[C, H, W]`.

    Returns:
        sRGB values, `[H, W, 3]`; what is not finite is black.
    """
    values = tensor.detach().float().cpu()
    if len(values) in IMAGENET:
        mean, std = (torch.tensor(v)[:, None, None] for v in IMAGENET[len(values)])
        levels, note = values * std + mean, "photo: the tensor with the mean and deviation of ImageNet undone"
    else:
        gray = values.mean(0, keepdim=True)
        finite = gray[gray.isfinite()]
        least, most = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        levels, note = (gray - least) / ((most - least) or 1), f"photo: the mean of {len(values)} channels, stretched"
    pixels = (levels.nan_to_num(0, 0, 0).clamp(0, 1) * 255).round().byte().expand(3, -1, -1)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()), note
