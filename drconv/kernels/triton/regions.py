"""From scores to regions, and from regions to lists of positions, without the host ever looking at them.

Positions of one set (a sample, or the whole batch where it shares its filters) are ordered by region, in their natural
order within each: a counting sort, whose result does not depend on how programs are scheduled. There is no table of
tiles: with the end of every region known, a program finds the tile that is its own from its number alone.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from drconv.kernels.triton.launch import launch, needs_wide, power

__all__ = ["Regions", "find_tile", "guided_mask", "most_tiles", "sort_positions"]

_MASK_BLOCK = 512
_CHUNK = 1024
"""Positions that one program counts or places."""


class Regions(NamedTuple):
    """The positions of every set, region after region.

    Attributes:
        order: positions within their set, `[S, Q]`, int32.
        ends: where each region ends in `order`, `[S, M]`, int32, any strides.
    """

    order: Tensor
    ends: Tensor

    def of_samples(self, first: int, last: int) -> "Regions":
        """Return those of some sets."""
        return Regions(self.order[first:last], self.ends[first:last])


@triton.jit
def largest(scores, offset, stride, inside, m, DOUBLE: tl.constexpr):
    """Return the index of the largest of m scores: the first of equals, and the first NaN if there is one."""
    best = tl.load(scores + offset, mask=inside, other=0.0)
    best = best.to(tl.float64) if DOUBLE else best.to(tl.float32)
    index = tl.zeros_like(offset).to(tl.int32)
    for r in range(1, m):
        score = tl.load(scores + offset + r * stride, mask=inside, other=0.0)
        score = score.to(tl.float64) if DOUBLE else score.to(tl.float32)
        better = (score > best) | ((score != score) & (best == best))
        best = tl.where(better, score, best)
        index = tl.where(better, r, index)
    return index


@triton.jit
def _mask_kernel(
    scores, mask, total, positions, width, m,
    stride_b, stride_r, stride_u, stride_v,
    DOUBLE: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0)
    if WIDE:
        first = first.to(tl.int64)
    i = first * BLOCK + tl.arange(0, BLOCK)
    inside = i < total
    b, p = i // positions, i % positions
    offset = b * stride_b + (p // width) * stride_u + (p % width) * stride_v
    if WIDE:
        stride_r = tl.cast(stride_r, tl.int64)
    tl.store(mask + i, largest(scores, offset, stride_r, inside, m, DOUBLE), mask=inside)


def guided_mask(guided_feature: Tensor) -> Tensor:
    """Return the region of every position, `[B, U, V]` in int32, by the rule of `drconv.ops.guided_mask`."""
    batch, regions, height, width = guided_feature.shape
    mask = torch.empty((batch, height, width), dtype=torch.int32, device=guided_feature.device)
    total = mask.numel()
    launch(
        _mask_kernel, triton.cdiv(total, _MASK_BLOCK), mask.device,
        guided_feature, mask, total, height * width, width, regions, *guided_feature.stride(),
        DOUBLE=guided_feature.dtype == torch.float64, WIDE=needs_wide((guided_feature, mask)), BLOCK=_MASK_BLOCK,
        num_warps=4,
    )  # fmt: skip
    return mask


@triton.jit
def _load_regions(mask, s, positions, chunk, WIDE: tl.constexpr, CHUNK: tl.constexpr):
    q = chunk * CHUNK + tl.arange(0, CHUNK)
    if WIDE:
        s = s.to(tl.int64)
    base = s * positions
    return q, base, tl.load(mask + base + q, mask=q < positions, other=-1).to(tl.int32)


@triton.jit
def _count_kernel(mask, counts, positions, m, chunks, WIDE: tl.constexpr, CHUNK: tl.constexpr):
    s, chunk = tl.program_id(0) // chunks, tl.program_id(0) % chunks
    _, _, region = _load_regions(mask, s, positions, chunk, WIDE, CHUNK)
    for r in range(m):
        tl.store(counts + (s * m + r) * chunks + chunk, tl.sum((region == r).to(tl.int32), 0))


@triton.jit
def _place_kernel(
    mask, last, order, ends, positions, m, chunks,
    ALONE: tl.constexpr, WIDE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    # `last` has, for every chunk and region, where its positions end in the order; a chunk that is alone knows.
    s, chunk = tl.program_id(0) // chunks, tl.program_id(0) % chunks
    q, base, region = _load_regions(mask, s, positions, chunk, WIDE, CHUNK)
    slot = tl.zeros_like(q)
    start = chunk * 0
    for r in range(m):
        is_here = (region == r).to(tl.int32)
        number = tl.sum(is_here, 0)
        if not ALONE:
            start = tl.load(last + (s * m + r) * chunks + chunk) - number
        slot = tl.where(region == r, start + tl.cumsum(is_here, 0) - 1, slot)
        if ALONE:
            start += number
            tl.store(ends + s * m + r, start)
    tl.store(order + base + slot, q, mask=q < positions)


def sort_positions(guided_mask: Tensor, sets: int, regions: int) -> Regions:
    """Order the positions of every set by region, keeping their order within each.

    Args:
        guided_mask: region of every position, `[B, U, V]`, any integers.
        sets: S, how many sets of samples there are, side by side in the batch.
        regions: M.
    """
    mask = guided_mask.contiguous()
    device, positions = mask.device, mask.numel() // sets
    order = torch.empty((sets, positions), dtype=torch.int32, device=device)
    chunk = power(positions, 16, _CHUNK)
    chunks = triton.cdiv(positions, chunk)
    meta = {"WIDE": needs_wide((mask,)), "CHUNK": chunk, "num_warps": 4}
    if chunks == 1:
        ends = torch.empty((sets, regions), dtype=torch.int32, device=device)
        launch(_place_kernel, sets, device, mask, ends, order, ends, positions, regions, 1, ALONE=True, **meta)
        return Regions(order, ends)
    counts = torch.empty((sets, regions * chunks), dtype=torch.int32, device=device)
    launch(_count_kernel, sets * chunks, device, mask, counts, positions, regions, chunks, **meta)
    last = counts.cumsum(1, dtype=torch.int32)
    launch(
        _place_kernel, sets * chunks, device, mask, last, order, last, positions, regions, chunks, ALONE=False, **meta
    )
    return Regions(order, last.view(sets, regions, chunks)[:, :, -1])


def most_tiles(positions: int, regions: int, block: int) -> int:
    """Return how many tiles of `block` positions a set may have, each of one region alone, however they lie."""
    used = min(regions, positions)
    return used + (positions - used) // block


@triton.jit
def find_tile(ends, tile, stride_r, m, BLOCK: tl.constexpr, M: tl.constexpr):
    """Return the region of a set's tile, and its first and one past its last slot in the order; equal for surplus.

    Args:
        ends: where the set's regions end.
        tile: its number within the set.
        stride_r: steps from one region's end to the next.
        m: how many regions there are.
        BLOCK: positions of a tile.
        M: a power of two, no less than m.
    """
    r = tl.arange(0, M)
    end = tl.load(ends + r * stride_r, mask=r < m, other=0)
    start = tl.load(ends + (r - 1) * stride_r, mask=(r > 0) & (r < m), other=0)
    tiles = (end - start + BLOCK - 1) // BLOCK
    through = tl.cumsum(tiles, 0)
    region = tl.sum((through <= tile).to(tl.int32), 0)
    is_it = r == region
    first = tl.sum(tl.where(is_it, start + (tile - through + tiles) * BLOCK, 0), 0)
    stop = tl.sum(tl.where(is_it, end, 0), 0)
    return region, first, tl.minimum(first + BLOCK, stop)
