"""The kernel behind the forward pass and the input's gradient: tiles of one region's positions times its filter."""

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from drconv.kernels.backend import RegionConvProblem
from drconv.kernels.layer import Geometry
from drconv.kernels.triton.launch import launch, needs_wide, power, precision, upcasts
from drconv.kernels.triton.regions import Regions, find_tile, most_tiles
from drconv.kernels.triton.tiles import Tile
from drconv.kernels.triton.windows import geometry_of, multiply_window

__all__ = ["Pass", "multiply_tiles"]


@triton.jit
def _tile_kernel(
    source, filters, result, bias, order, ends,
    set_size, positions, width, source_height, source_width, m, outs, ins, tiles, blocks, out_taps, out_taps_w,
    source_b, source_c, source_h, source_w,
    filter_s, filter_r, filter_group, filter_out, filter_in, filter_h, filter_w,
    result_b, result_c, result_u, result_v, result_tap, ends_s, ends_r,
    GROUPS: tl.constexpr, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr, WIDE: tl.constexpr,
    M: tl.constexpr, ROWS: tl.constexpr, OUTS: tl.constexpr, INS: tl.constexpr,
):  # fmt: skip
    # Blocks of channels run fastest, so that programs that read the same rows are neighbours.
    pid = tl.program_id(0)
    block, pid = pid % blocks, pid // blocks
    group, pid = pid % GROUPS, pid // GROUPS
    out_tap, pid = pid % out_taps, pid // out_taps
    tile, s = pid % tiles, pid // tiles
    if WIDE:
        s, group, out_tap = s.to(tl.int64), group.to(tl.int64), out_tap.to(tl.int64)
    region, first, stop = find_tile(ends + s * ends_s, tile, ends_r, m, ROWS, M)
    if first >= stop:
        return
    slot = first + tl.arange(0, ROWS)
    is_row = slot < stop
    q = tl.load(order + s * set_size + slot, mask=is_row, other=0)
    b, p = s * (set_size // positions) + q // positions, q % positions
    u, v = p // width, p % width
    out = block * OUTS + tl.arange(0, OUTS)
    is_out = out < outs
    channel = tl.arange(0, INS)
    if WIDE:
        u, v, region = u.to(tl.int64), v.to(tl.int64), region.to(tl.int64)
        out, channel = out.to(tl.int64), channel.to(tl.int64)

    top, left = u * STRIDE_H - PAD_H, v * STRIDE_W - PAD_W
    rows = source + b * source_b + group * ins * source_c
    matrix = filters + s * filter_s + region * filter_r + group * filter_group + out * filter_out
    matrix += (out_tap // out_taps_w) * filter_h + (out_tap % out_taps_w) * filter_w
    total = multiply_window(
        rows, matrix, top, left, is_row, is_out, ins, source_height, source_width,
        source_c, source_h, source_w, filter_in, filter_h, filter_w, channel,
        KERNEL_H, KERNEL_W, DILATION_H, DILATION_W, PAD_H > 0 or PAD_W > 0, PRECISION, UPCAST, ROWS, OUTS, INS,
    )  # fmt: skip
    if HAS_BIAS:
        total += tl.load(bias + group * outs + out, mask=is_out, other=0.0).to(tl.float32)[None, :]
    at = b * result_b + u * result_u + v * result_v + out_tap * result_tap
    at = at[:, None] + ((group * outs + out) * result_c)[None, :]
    tl.store(result + at, total.to(result.dtype.element_ty), mask=is_row[:, None] & is_out[None, :])


@dataclass(frozen=True)
class Pass:
    """What the kernel makes of what.

    Attributes:
        source: what it reads at every position, `[B, channels, H, W]`.
        result: what it writes, `[B, channels, U, V]`, or `[B, channels, U, V, taps]` if every tap is one of its own.
        outs, ins: channels of result and source in each group.
        geometry: how positions read the source.
        filters: strides of sets, regions, groups, output channels, those summed over, and taps down and across.
        taps: how many taps the result has, and how many of them across.
    """

    source: Tensor
    result: Tensor
    outs: int
    ins: int
    geometry: Geometry
    filters: tuple[int, ...]
    taps: tuple[int, int] = (1, 1)


def multiply_tiles(
    problem: RegionConvProblem,
    work: Pass,
    region_filters: Tensor,
    bias: Tensor | None,
    regions: Regions,
    tile: Tile,
) -> None:
    """Write, for every position, the sum over taps and channels with the filter of its region, plus the bias."""
    p, g = problem, work.geometry
    sets, set_size = regions.order.shape
    tiles, blocks = most_tiles(set_size, p.num_regions, tile.rows), triton.cdiv(work.outs, tile.outs)
    steps = work.result.stride()
    launch(
        _tile_kernel, sets * tiles * work.taps[0] * p.groups * blocks, work.source.device,
        work.source, region_filters, work.result, bias, regions.order, regions.ends,
        set_size, p.positions, p.output_size[1], *work.source.shape[2:], p.num_regions, work.outs, work.ins,
        tiles, blocks, *work.taps,
        *work.source.stride(), *work.filters, *steps[:4], steps[4] if len(steps) > 4 else 0, *regions.ends.stride(),
        GROUPS=p.groups, **geometry_of(g),
        HAS_BIAS=bias is not None, PRECISION=precision(p.dtype), UPCAST=upcasts(p.dtype),
        WIDE=needs_wide((work.source, work.result, region_filters, regions.order)),
        M=power(p.num_regions, 2, 1 << 30), ROWS=tile.rows, OUTS=tile.outs, INS=tile.ins, **tile.meta,
    )  # fmt: skip
