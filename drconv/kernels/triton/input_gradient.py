"""The input's gradient: filters transposed over the same tiles, and for larger kernels a sum of what each tap gave."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from drconv.kernels.backend import RegionConvProblem
from drconv.kernels.triton.forward import set_step
from drconv.kernels.triton.launch import launch, needs_wide
from drconv.kernels.triton.regions import Regions, sort_positions
from drconv.kernels.triton.tile_products import Pass, multiply_tiles
from drconv.kernels.triton.tiles import list_tile, pixel_tile
from drconv.kernels.triton.tuning import kind_of, tuned
from drconv.kernels.triton.windows import IN_PLACE, geometry_of

__all__ = ["input_gradient"]

_HELD = 1 << 23
"""Values that taps give before they are added up, 32 MB to stay in the second cache; but one sample at least."""


def input_gradient(
    problem: RegionConvProblem, grad_output: Tensor, region_filters: Tensor, guided_mask: Tensor, regions: Regions
) -> Tensor:
    """Return the gradient of the input, `[B, C, H, W]`."""
    p = problem
    shape = (p.batch, p.in_channels, *p.input_size)
    result = torch.empty(shape, dtype=p.dtype, device=grad_output.device, memory_format=p.memory_format)
    if p.kernel_size == p.stride == (1, 1) and p.padding == (0, 0):
        _transposed(p, grad_output, region_filters, result, regions)
        return result
    taps = p.kernel_size[0] * p.kernel_size[1]
    step = max(1, min(p.batch, _HELD // (p.positions * taps * p.in_channels)))
    room = (step, *p.output_size, taps, p.in_channels)
    held = torch.empty(room, dtype=torch.float32, device=grad_output.device)
    for first in range(0, p.batch, step):
        last = min(first + step, p.batch)
        some = held[: last - first]
        filters = region_filters
        if not p.shared_filters:
            filters, here = region_filters[first:last], regions.of_samples(first, last)
        elif step == p.batch:
            here = regions
        else:
            here = sort_positions(guided_mask[first:last], 1, p.num_regions)
        # [B, U, V, taps, C] as [B, C, U, V, taps]
        _transposed(p, grad_output[first:last], filters, some.permute(0, 4, 1, 2, 3), here)
        _add_taps(p, some, result[first:last])
    return result


def _transposed(
    problem: RegionConvProblem, grad_output: Tensor, region_filters: Tensor, result: Tensor, regions: Regions
) -> None:
    """Write what every position gives to the pixels that it reads, tap by tap if the result has an axis of taps."""
    p = problem
    outs, ins = p.in_channels // p.groups, p.out_channels // p.groups
    region, out, into, down, across = region_filters.stride()[-5:]
    work = Pass(
        source=grad_output,
        result=result,
        outs=outs,
        ins=ins,
        geometry=IN_PLACE,
        filters=(set_step(p, region_filters), region, ins * out, into, out, down, across),
        taps=(result.shape[4], p.kernel_size[1]) if result.dim() == 5 else (1, 1),
    )
    tuned(
        ("input_gradient", *kind_of(p)),
        list_tile(p, regions.order.shape[1], outs, ins),
        result.device,
        lambda tile: multiply_tiles(p, work, region_filters, None, regions, tile),
    )


@triton.jit
def _taps_kernel(
    held, result, height, width, out_height, out_width, channels, tiles, blocks,
    result_b, result_c, result_h, result_w,
    KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_H: tl.constexpr, DILATION_W: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, OUTS: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    block, pid = pid % blocks, pid // blocks
    tile, b = pid % tiles, pid // tiles
    pixel = tile * ROWS + tl.arange(0, ROWS)
    c = block * OUTS + tl.arange(0, OUTS)
    is_c, is_pixel = c < channels, pixel < height * width
    h, w = pixel // width, pixel % width
    if WIDE:
        b, h, w, c = b.to(tl.int64), h.to(tl.int64), w.to(tl.int64), c.to(tl.int64)
    total = tl.zeros((ROWS, OUTS), dtype=tl.float32)
    for tap in range(0, KERNEL_H * KERNEL_W):
        # Which position reads this pixel by this tap, if one does.
        up, left = h + PAD_H - (tap // KERNEL_W) * DILATION_H, w + PAD_W - (tap % KERNEL_W) * DILATION_W
        u, v = up // STRIDE_H, left // STRIDE_W
        reads = is_pixel & (up >= 0) & (left >= 0) & (u < out_height) & (v < out_width)
        reads = reads & (u * STRIDE_H == up) & (v * STRIDE_W == left)
        at = (((b * out_height + u) * out_width + v) * (KERNEL_H * KERNEL_W) + tap) * channels
        total += tl.load(held + at[:, None] + c[None, :], mask=reads[:, None] & is_c[None, :], other=0.0)
    at = b * result_b + h * result_h + w * result_w
    at = at[:, None] + (c * result_c)[None, :]
    tl.store(result + at, total.to(result.dtype.element_ty), mask=is_pixel[:, None] & is_c[None, :])


def _add_taps(problem: RegionConvProblem, held: Tensor, result: Tensor) -> None:
    p = problem
    pixels = p.input_size[0] * p.input_size[1]
    tile = pixel_tile(pixels, p.in_channels)
    tiles, blocks = triton.cdiv(pixels, tile.rows), triton.cdiv(p.in_channels, tile.outs)
    launch(
        _taps_kernel, len(held) * tiles * blocks, held.device,
        held, result, *p.input_size, *p.output_size, p.in_channels, tiles, blocks, *result.stride(),
        **geometry_of(p), WIDE=needs_wide((held, result)), ROWS=tile.rows, OUTS=tile.outs, **tile.meta,
    )  # fmt: skip
