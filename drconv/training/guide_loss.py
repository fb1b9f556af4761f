"""Supervision of guides by known region maps. It is not in the paper: there, a guide learns from the task alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from drconv.errors import ArgumentError, ModelError
from drconv.layers.base import RegionLayer
from drconv.training.pixel_pairs import check_region_maps, draw_pixels, resized_region_maps, taken, unpaired

__all__ = ["collect_guided_features", "guide_pair_loss"]


def guide_pair_loss(
    guided_features: Sequence[Tensor],
    region_maps: Tensor,
    generator: torch.Generator,
    *,
    pixels: int = 64,
    ignore_index: int | None = None,
) -> Tensor:
    r"""Ask of every guide that two pixels share a region exactly if they do so in the known map. Not in the paper.

    With P_i the softmax of the scores at position i, q_ij = <P_i, P_j> is the probability that positions i and j would
    draw the same region. The loss of a pair is -log q_ij where the map gives both the same region, and -log(1 - q_ij)
    where it does not; what the regions are called does not matter, and there may be more of them in the map than M.
    The result is the mean over pairs, images and layers.

    Args:
        guided_features: scores of each layer with their graph, `[B, M, U, V]` each, as `collect_guided_features` gives
            them.
        region_maps: true region of every pixel, integers `[B, H, W]`; brought to each layer's U x V with nearest
            neighbours.
        generator: draws the pixels, anew for every layer; on the CPU, whatever the device of the scores.
        pixels: how many of an image are paired with each other; all of them on smaller maps.
        ignore_index: region of the pixels that are in no pair, such as those that nobody labelled; they are drawn like
            the others. None: there are none.

    Returns:
        The loss, a float32 scalar, at least 0. A layer of which no pair counts has 0.

    Raises:
        ArgumentError: there are no scores, the shapes do not fit, there are fewer than two pixels, or `ignore_index` is
            no integer or beyond 2**24.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> with collect_guided_features(model) as guided:
        ...     logits = model(images)
        ...     loss = cross_entropy(logits, labels) + weight * guide_pair_loss(guided, region_maps, generator)
    """
    if not guided_features:
        raise ArgumentError("guided_features must hold the scores of at least one layer, got none; run the model first")
    check_region_maps(region_maps, guided_features[0].shape[0])
    losses = [_pair_loss(scores, region_maps, generator, pixels, ignore_index) for scores in guided_features]
    return torch.stack(losses).mean()


def _pair_loss(
    scores: Tensor, region_maps: Tensor, generator: torch.Generator, pixels: int, ignore_index: int | None
) -> Tensor:
    batch, _, height, width = scores.shape
    if height * width < 2:
        raise ArgumentError(
            f"a guided feature needs at least two positions to pair, got {list(scores.shape)}; use larger images"
        )
    chosen = draw_pixels(batch, height * width, pixels, generator).to(scores.device)
    region = taken(resized_region_maps(region_maps, (height, width))[:, None].to(scores.device), chosen)  # [B, N, 1]
    # Half precision would round 1 - q away.
    shares = taken(scores.float(), chosen).softmax(2)  # [B, N, M]
    least = torch.finfo(torch.float32).tiny
    same = region == region.transpose(1, 2)  # [B, N, N]
    agree = shares @ shares.transpose(1, 2)
    # Not 1 - q, of which only rounding is left where both are nearly certain.
    differ = shares @ (1 - shares).transpose(1, 2)
    apart = unpaired(region, ignore_index)
    loss = -torch.where(same, agree, differ).clamp_min(least).log().masked_fill(apart, 0)
    if ignore_index is None:
        return loss.sum() / (batch * loss.shape[1] * (loss.shape[1] - 1))
    return loss.sum() / (~apart).sum().clamp_min(1)


@contextmanager
def collect_guided_features(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the scores that region layers use, with their graph, in whatever mode the model is.

    Each forward pass adds one tensor per call of a region layer, in the order of the calls; empty the list between
    steps. The hooks are removed at the end. Code that was compiled before does not call them.

    Args:
        model: any module that contains region layers.

    Yields:
        A list of guided features, `[B, M, U, V]` each.

    Raises:
        ModelError: the model has no region layer.
    """
    layers = [module for module in model.modules() if isinstance(module, RegionLayer)]
    if not layers:
        raise ModelError(f"{type(model).__name__} has no layer with regions (DRConv2d), so no guide can be supervised")
    found: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Any, ...]) -> None:
        found.append(args[2])

    handles = [layer.region_conv.register_forward_pre_hook(keep) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
