"""Region maps to time with: how they are drawn, how a layer is made to use one, and what they are like."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from drconv.checks import pick
from drconv.errors import ArgumentError
from drconv.layers import DRConv2d, DynamicLayer

__all__ = ["MAPS", "MapStatistics", "draw_map", "force_map", "map_statistics"]

Draw = Callable[[int, int, int, int, torch.Generator], Tensor]
"""(B, M, U, V, random numbers) -> regions, `[B, U, V]`."""


def _uniform(batch: int, regions: int, height: int, width: int, random: torch.Generator) -> Tensor:
    """Equal shares, each in one run of rows."""
    positions = torch.arange(height * width)
    return (positions * regions // positions.numel()).view(1, height, width).repeat(batch, 1, 1)


def _blocky(batch: int, regions: int, height: int, width: int, random: torch.Generator) -> Tensor:
    """Smooth blobs: the largest of M noises that vary over a quarter of the map."""
    coarse = torch.randn(batch, regions, 4, 4, generator=random)
    return F.interpolate(coarse, size=(height, width), mode="bicubic").argmax(1)


def _salt(batch: int, regions: int, height: int, width: int, random: torch.Generator) -> Tensor:
    """Random for every position."""
    return torch.randint(regions, (batch, height, width), generator=random)


def _single(batch: int, regions: int, height: int, width: int, random: torch.Generator) -> Tensor:
    """One region, the first."""
    return torch.zeros(batch, height, width, dtype=torch.long)


MAPS: dict[str, Draw] = {"uniform": _uniform, "blocky": _blocky, "salt": _salt, "single": _single}
"""Kind of map -> how it is drawn."""


@dataclass(frozen=True)
class MapStatistics:
    """What matters for the time of a map.

    Attributes:
        regions: regions that occur in a sample, on average.
        runs: runs of equal regions in a sample, row by row, on average.
        boundary_share: share of the pairs of positions side by side or one above the other whose regions differ.
    """

    regions: float
    runs: float
    boundary_share: float


def draw_map(
    kind: str,
    batch: int,
    num_regions: int,
    size: tuple[int, int],
    *,
    image: Tensor | None = None,
    occurring: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Draw the region of every position.

    Args:
        kind: uniform, blocky, salt, single, or image.
        batch: B.
        num_regions: M.
        size: (U, V).
        image: for "image", colours `[3, H, W]`; each sample gets the colours of a random crop in M groups.
        occurring: regions that may occur in a sample, drawn anew for each; None is M.
        seed: of everything random.

    Returns:
        Regions, int64, `[B, U, V]`.

    Raises:
        ArgumentError: no such kind, no image, or `occurring` is not in 1..M.
    """
    pick("maps", kind, (*MAPS, "image"))
    drawn = num_regions if occurring is None else occurring
    if not 1 <= drawn <= num_regions:
        raise ArgumentError(f"occurring must be from 1 to num_regions={num_regions}, got occurring={occurring}")
    random = torch.Generator().manual_seed(seed)
    if kind == "image":
        if image is None or image.dim() != 3:
            raise ArgumentError("maps='image' needs an image [3, H, W], got none")
        mask = _of_image(image, batch, drawn, *size, random)
    else:
        mask = MAPS[kind](batch, drawn, *size, random)
    if drawn == num_regions:
        return mask
    chosen = torch.stack([torch.randperm(num_regions, generator=random)[:drawn] for _ in range(batch)])
    return chosen.gather(1, mask.flatten(1)).view_as(mask)


def _of_image(image: Tensor, batch: int, regions: int, height: int, width: int, random: torch.Generator) -> Tensor:
    """Group the colours of crops of an image, whose sides are three quarters of it, at the map's own resolution."""
    crops = []
    rows, columns = (max(1, ceil(0.75 * side)) for side in image.shape[1:])
    for _ in range(batch):
        top = int(torch.randint(image.shape[1] - rows + 1, (), generator=random))
        left = int(torch.randint(image.shape[2] - columns + 1, (), generator=random))
        crops.append(image[:, top : top + rows, left : left + columns].float())
    small = F.interpolate(torch.stack(crops), size=(height, width), mode="area")
    colours = small.permute(0, 2, 3, 1).reshape(-1, small.shape[1])  # [B*U*V, 3]
    return _clusters(colours, regions).view(batch, height, width)


def _clusters(points: Tensor, count: int, steps: int = 20) -> Tensor:
    """Return the cluster of every point by Lloyd's iterations, from centres each farthest from those before."""
    centres = points.mean(0, keepdim=True)
    for _ in range(count - 1):
        centres = torch.cat([centres, points[torch.cdist(points, centres).amin(1).argmax()][None]])
    nearest = torch.cdist(points, centres).argmin(1)
    for _ in range(steps):
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        sizes = nearest.bincount(minlength=count)[:, None]
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
        nearest = torch.cdist(points, centres).argmin(1)
    return nearest


def force_map(layer: DRConv2d, input: Tensor, mask: Tensor) -> Tensor:
    """Make a layer use a wanted map exactly, by its guide's weights and by marks in the input.

    Guide channel r is made to read input channel r at the centre of its kernel, and input channel r is raised where
    region r is wanted, by more than the input's range.

    Args:
        layer: with a guide of its own, which is changed.
        input: `[B, C, H, W]`.
        mask: wanted regions, `[B, U, V]`.

    Returns:
        The input with the marks.

    Raises:
        ArgumentError: the layer has fewer channels than regions, or the centre of a kernel lies outside of the input.
    """
    if layer.guide is None or layer.in_channels < layer.num_regions:
        raise ArgumentError(
            "a map can be forced on a layer that has as many input channels as regions, got "
            f"in_channels={layer.in_channels}, num_regions={layer.num_regions}; use scope='operator', or fewer regions"
        )
    reads = [_read_by_centre(layer, axis, length, mask.shape[1 + axis]) for axis, length in enumerate(input.shape[2:])]
    centre = [(side - 1) // 2 for side in layer.kernel_size]
    with torch.no_grad():
        layer.guide.weight.zero_()
        if layer.guide.bias is not None:
            layer.guide.bias.zero_()
        for region in range(layer.num_regions):
            layer.guide.weight[region, region, centre[0], centre[1]] = 1
    wanted = F.one_hot(mask, layer.num_regions).permute(0, 3, 1, 2).to(input)  # [B, M, U, V]
    marked = input.detach().clone()
    rows, columns = (torch.tensor(read, device=input.device) for read in reads)
    marks = torch.zeros_like(marked[:, : layer.num_regions])
    marks[:, :, rows[:, None], columns[None, :]] = wanted * (2 * float(input.abs().max()) + 1)
    marked[:, : layer.num_regions] += marks
    return marked


def _read_by_centre(layer: DynamicLayer, axis: int, length: int, outputs: int) -> list[int]:
    """Return which rows (or columns) of the input the centres of the kernel read."""
    if isinstance(layer.padding, str):
        raise ArgumentError(f"a map can be forced on a layer whose padding is given in numbers, got {layer.padding!r}")
    centre = layer.dilation[axis] * ((layer.kernel_size[axis] - 1) // 2)
    read = [layer.stride[axis] * u + centre - layer.padding[axis] for u in range(outputs)]
    if read[0] < 0 or read[-1] >= length:
        raise ArgumentError(
            f"a map can be forced where the centre of the kernel stays inside the input, got padding={layer.padding}, "
            f"kernel_size={layer.kernel_size}, dilation={layer.dilation}; use scope='operator', or less padding"
        )
    return read


def map_statistics(mask: Tensor) -> MapStatistics:
    """Describe the regions `[B, U, V]` of a batch."""
    batch, height, width = mask.shape
    regions = sum(int(sample.unique().numel()) for sample in mask) / batch
    rows = mask.flatten(1)
    runs = batch + int((rows[:, 1:] != rows[:, :-1]).sum())
    differing = int((mask[:, 1:] != mask[:, :-1]).sum()) + int((mask[:, :, 1:] != mask[:, :, :-1]).sum())
    pairs = batch * ((height - 1) * width + height * (width - 1))
    return MapStatistics(regions, runs / batch, differing / max(1, pairs))
