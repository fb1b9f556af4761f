"""Several filters around one, for layers that start from a convolution's weights."""

from math import sqrt

import torch
from torch import Tensor

__all__ = ["spread"]


def spread(filter: Tensor, count: int) -> Tensor:
    """Return several filters whose mean is the given one, and which differ so that they can learn apart.

    To the filter is added noise whose sum over the filters is zero: in each output channel as large as the filter is
    there, so that a faint channel does not drown in rounding; He-sized if the whole filter is zero. A single filter
    gets none.

    Args:
        filter: `[O, C/groups*K*K]`.
        count: how many.

    Returns:
        `[count, O, C/groups*K*K]`, in the filter's dtype.
    """
    if count == 1:
        return filter[None].clone()
    # Sums in float64 where the device has it, so that the mean is that of the filter to its own rounding.
    wide = torch.float32 if filter.device.type == "mps" else torch.float64
    drawn = torch.promote_types(filter.dtype, torch.float32)
    noise = torch.randn(count, *filter.shape, dtype=drawn, device=filter.device).to(wide)
    noise = (noise - noise.mean(0)) * sqrt(count / (count - 1))
    squares = filter.to(wide).nan_to_num(0, 0, 0).square()
    size, whole = squares.mean(1, keepdim=True).sqrt(), squares.mean().sqrt()
    # A channel of zeros starts with noise, too, or it could not learn; as large as the other channels are.
    fallback = torch.where(whole > 0, whole, sqrt(2 / filter.shape[1]))
    noise = noise * torch.where(size > 0, size, fallback)
    return (filter.to(wide) + noise).to(filter.dtype)
