"""How decided the choice of a region is, position by position."""

import torch
from torch import Tensor

__all__ = ["guide_margins"]


@torch.no_grad()
def guide_margins(guided_feature: Tensor) -> Tensor:
    """Return the largest minus the second largest softmax of the scores at every position.

    0 is a tie and 1 is certainty; with one region it is 1.

    Args:
        guided_feature: scores, `[B, M, U, V]`.

    Returns:
        float32 values from 0 to 1, `[B, U, V]`; NaN where scores are not all finite.
    """
    scores = guided_feature.float()
    scored = scores.isfinite().all(1)  # [B, U, V]
    if scores.shape[1] == 1:
        margins = torch.ones_like(scores[:, 0])
    else:
        largest = scores.softmax(1).topk(2, dim=1).values
        margins = largest[:, 0] - largest[:, 1]
    return margins.masked_fill(~scored, float("nan"))
