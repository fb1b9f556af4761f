"""Which pixels the losses on pairs of pixels look at, and which of them lie in the same region."""

import torch
import torch.nn.functional as F
from torch import Tensor

from drconv.checks import positive
from drconv.errors import ArgumentError

__all__ = ["check_region_maps", "draw_pixels", "resized_region_maps", "taken", "unpaired"]

_MOST_EXACT = 2**24
"""Maps change their grid as float32, which holds all integers up to here."""


def check_region_maps(region_maps: Tensor, batch: int) -> None:
    """Raise `ArgumentError` unless the maps are integers `[B, H, W]` for a batch of that size, with H and W above 0."""
    if region_maps.dim() != 3 or region_maps.shape[0] != batch or region_maps.is_floating_point():
        raise ArgumentError(
            f"region_maps must be integers of shape [{batch}, H, W], got {region_maps.dtype} of "
            f"{list(region_maps.shape)}"
        )
    if region_maps.numel() == 0:
        raise ArgumentError(
            f"region_maps must have pixels, got {list(region_maps.shape)}; use data that knows its regions, such as "
            "mosaics"
        )


def resized_region_maps(region_maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps `[B, H, W]` on another grid, `[B, U, V]`; each position takes the pixel in its middle."""
    # Any float holds the numbers of regions exactly; "nearest-exact" takes the middle, "nearest" the corner.
    resized = F.interpolate(region_maps[:, None].float(), size, mode="nearest-exact")
    return resized[:, 0].to(region_maps.dtype)


def draw_pixels(batch: int, positions: int, pixels: int, generator: torch.Generator) -> Tensor:
    """Draw different positions for each image, or take all of them if there are no more than that.

    Args:
        batch: B.
        positions: U*V.
        pixels: how many of them.
        generator: source of randomness, on the CPU, so that the draw is the same for every device.

    Returns:
        Flat positions, `[B, min(pixels, U*V)]`, on the CPU.

    Raises:
        ArgumentError: `pixels` is no integer, or below two, which a pair needs.
    """
    if positive("pixels", pixels) < 2:
        raise ArgumentError(f"pixels must be at least 2, for a pair has two, got pixels={pixels!r}")
    pixels = min(pixels, positions)
    return torch.rand(batch, positions, generator=generator).topk(pixels, dim=1).indices


def taken(maps: Tensor, chosen: Tensor) -> Tensor:
    """Return the values of maps `[B, D, U, V]` at flat positions `[B, N]`, as `[B, N, D]`."""
    values = maps.flatten(2).transpose(1, 2)  # [B, U*V, D]
    return values.gather(1, chosen[..., None].expand(-1, -1, values.shape[2]))


def unpaired(region: Tensor, ignore_index: int | None) -> Tensor:
    """Tell which pairs of pixels do not count: a pixel with itself, and any with a pixel whose region is ignored.

    Args:
        region: of each drawn pixel, integers `[B, N, 1]`.
        ignore_index: region whose pixels are in no pair.

    Returns:
        Booleans that broadcast to `[B, N, N]`.

    Raises:
        ArgumentError: `ignore_index` is no integer, or one beyond 2**24.
    """
    itself = torch.eye(region.shape[1], dtype=torch.bool, device=region.device)
    if ignore_index is None:
        return itself
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, int) or abs(ignore_index) > _MOST_EXACT:
        raise ArgumentError(
            f"ignore_index must be None or an integer between -{_MOST_EXACT} and {_MOST_EXACT}, "
            f"got ignore_index={ignore_index!r}"
        )
    # As int64: for maps in uint8, torch takes -100 for 156.
    ignored = region.long() == ignore_index
    return itself | ignored | ignored.transpose(1, 2)
