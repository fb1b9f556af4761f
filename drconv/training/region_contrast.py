"""A task that makes features tell regions apart: pixels of a region shall be alike, and unlike those of others."""

import torch
import torch.nn.functional as F
from torch import Tensor

from drconv.errors import ArgumentError
from drconv.training.pixel_pairs import check_region_maps, draw_pixels, resized_region_maps, taken, unpaired

__all__ = ["region_contrast_loss"]


def region_contrast_loss(
    embedding: Tensor,
    region_maps: Tensor,
    generator: torch.Generator,
    *,
    pixels: int = 64,
    scale: float = 8.0,
    ignore_index: int | None = None,
) -> Tensor:
    r"""Contrast pixels of one image by the regions of a known map.

    For a drawn pixel i, the cosines of its embedding with those of the other drawn pixels of the image, times `scale`,
    are the logits of a softmax; the loss is the mean of -log softmax over the pixels of the same region ("Supervised
    Contrastive Learning", NeurIPS 2020, with pixels for images and regions for classes). The result is the mean over
    pixels that have a fellow.

    Args:
        embedding: of every position, `[B, D, U, V]`; its length does not matter.
        region_maps: true region of every pixel, integers `[B, H, W]`; brought to U x V with nearest neighbours.
        generator: draws the pixels; on the CPU.
        pixels: how many of an image; all of them on smaller maps.
        scale: of the cosines, one over the temperature.
        ignore_index: region of the pixels that are in no pair, neither fellows nor others, such as those that nobody
            labelled; they are drawn like the others. None: there are none.

    Returns:
        The loss, a float32 scalar; log(pixels - 1) for an embedding that tells nothing, with all pixels labelled; 0
        where no pixel has a fellow.

    Raises:
        ArgumentError: the shapes do not fit, there are fewer than two pixels, or `ignore_index` is no integer or beyond
            2**24.
    """
    if embedding.dim() != 4 or embedding.shape[2] * embedding.shape[3] < 2:
        raise ArgumentError(f"embedding must be [B, D, U, V] with at least two positions, got {list(embedding.shape)}")
    batch, _, height, width = embedding.shape
    check_region_maps(region_maps, batch)
    chosen = draw_pixels(batch, height * width, pixels, generator).to(embedding.device)
    region = taken(resized_region_maps(region_maps, (height, width))[:, None].to(embedding.device), chosen)
    points = F.normalize(taken(embedding.float(), chosen), dim=2)  # [B, N, D]
    apart = unpaired(region, ignore_index)
    fellows = (region == region.transpose(1, 2)) & ~apart  # [B, N, N]
    counted = fellows.any(2)
    # Not in rows that do not count: where all pairs are ignored, the softmax would be NaN.
    logits = (scale * points @ points.transpose(1, 2)).masked_fill(apart & counted[..., None], -torch.inf)
    loss = -(logits.log_softmax(2).masked_fill(~fellows, 0).sum(2)) / fellows.sum(2).clamp_min(1)
    return (loss * counted).sum() / counted.sum().clamp_min(1)
