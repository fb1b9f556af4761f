"""From scores to regions: the argmax of the guided feature, and the softmax that stands in for its gradient."""

import torch
from torch import Tensor

__all__ = ["guided_mask", "softmax_gradient"]


def guided_mask(guided_feature: Tensor) -> Tensor:
    """Return the region of every position: the index of its largest score.

    Ties go to the lowest region. NaN counts as largest, and the first NaN wins.

    Args:
        guided_feature: region scores, `[B, M, U, V]`.

    Returns:
        Region indices, int64, `[B, U, V]`.
    """
    # The same as argmax, which takes ten times as long on a CPU.
    return guided_feature.detach().max(1).indices


def softmax_gradient(guided_feature: Tensor, products: Tensor) -> Tensor:
    """Return the gradient of the guided feature, treating the choice of a region as a softmax at temperature 1.

    With P = softmax(F) over regions and dP the gradient of the one-hot mask, dF = P * (dP - <P, dP>) at every
    position; computed in float32 or wider.

    Args:
        guided_feature: F, `[B, M, U, V]`.
        products: dP, the gradient of the one-hot mask, `[B, M, U, V]`.

    Returns:
        dF in the dtype of `guided_feature`, `[B, M, U, V]`.
    """
    dtype = torch.promote_types(guided_feature.dtype, products.dtype)
    probabilities = guided_feature.softmax(1, dtype=torch.promote_types(dtype, torch.float32))
    mean = (probabilities * products).sum(1, keepdim=True)
    return (probabilities * (products - mean)).to(guided_feature.dtype)
