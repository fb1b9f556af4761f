"""The filters' gradient: each region's positions summed in their order, in as many parts as the call has to spare."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from drconv.kernels.backend import RegionConvProblem
from drconv.kernels.triton.launch import launch, needs_wide, power, precision, upcasts
from drconv.kernels.triton.regions import Regions
from drconv.kernels.triton.tiles import Tile
from drconv.kernels.triton.tuning import kind_of, tuned
from drconv.kernels.triton.windows import geometry_of

__all__ = ["add_parts", "empty_parts", "filter_gradient", "part_of_region"]

_PROGRAMS = 1024
"""How many programs keep a large GPU busy. A constant, so that results are the same on every one."""

_LEAST = 256
"""Positions that a part should have for it to pay."""


@triton.jit
def part_of_region(ends, region, ends_r, part, parts, ROWS: tl.constexpr):
    """Return the first and one past the last slot of one of the parts into which a region's positions are cut."""
    start = tl.load(ends + (region - 1) * ends_r, mask=region > 0, other=0)
    stop = tl.load(ends + region * ends_r)
    length = tl.cdiv(tl.cdiv(stop - start, parts), ROWS) * ROWS
    first = start + part * length
    return first, tl.minimum(first + length, stop)


@triton.jit
def _filter_kernel(
    grad, source, result, order, ends,
    set_size, positions, width, source_height, source_width, m, outs, ins, out_blocks, in_blocks, parts,
    grad_b, grad_c, grad_u, grad_v, source_b, source_c, source_h, source_w,
    result_part, result_s, result_r, ends_s, ends_r,
    GROUPS: tl.constexpr, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, OUTS: tl.constexpr, INS: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    tap, pid = pid % (KERNEL_H * KERNEL_W), pid // (KERNEL_H * KERNEL_W)
    in_block, pid = pid % in_blocks, pid // in_blocks
    out_block, pid = pid % out_blocks, pid // out_blocks
    group, pid = pid % GROUPS, pid // GROUPS
    part, pid = pid % parts, pid // parts
    region, s = pid % m, pid // m
    down, across = tap // KERNEL_W, tap % KERNEL_W
    o = out_block * OUTS + tl.arange(0, OUTS)
    c = in_block * INS + tl.arange(0, INS)
    is_o, is_c = o < outs, c < ins
    if WIDE:
        s, group, part, region = s.to(tl.int64), group.to(tl.int64), part.to(tl.int64), region.to(tl.int64)
        o, c = o.to(tl.int64), c.to(tl.int64)
    first, stop = part_of_region(ends + s * ends_s, region, ends_r, part, parts, ROWS)
    grads = grad + ((group * outs + o) * grad_c)[:, None]
    rows = source + ((group * ins + c) * source_c)[None, :]
    total = tl.zeros((OUTS, INS), dtype=tl.float32)
    for begin in range(first, stop, ROWS):
        slot = begin + tl.arange(0, ROWS)
        is_row = slot < stop
        q = tl.load(order + s * set_size + slot, mask=is_row, other=0)
        b, p = s * (set_size // positions) + q // positions, q % positions
        u, v = p // width, p % width
        if WIDE:
            u, v = u.to(tl.int64), v.to(tl.int64)
        h, w = u * STRIDE_H - PAD_H + down * DILATION_H, v * STRIDE_W - PAD_W + across * DILATION_W
        seen = is_row & (h >= 0) & (h < source_height) & (w >= 0) & (w < source_width)
        g = tl.load(
            grads + (b * grad_b + u * grad_u + v * grad_v)[None, :], mask=is_o[:, None] & is_row[None, :], other=0.0
        )
        x = tl.load(
            rows + (b * source_b + h * source_h + w * source_w)[:, None], mask=seen[:, None] & is_c[None, :], other=0.0
        )
        if UPCAST:
            g, x = g.to(tl.float32), x.to(tl.float32)
        total = tl.dot(g, x, total, input_precision=PRECISION)
    at = part * result_part + s * result_s + region * result_r
    at += (((group * outs + o)[:, None] * ins + c[None, :]) * KERNEL_H + down) * KERNEL_W + across
    tl.store(result + at, total.to(result.dtype.element_ty), mask=is_o[:, None] & is_c[None, :])


def filter_gradient(
    problem: RegionConvProblem, grad_output: Tensor, input: Tensor, region_filters: Tensor, regions: Regions
) -> Tensor:
    """Return the gradient of the filters, shaped like them."""
    p = problem
    outs, ins = p.out_channels // p.groups, p.in_channels // p.groups
    tile = Tile(rows=32 if p.dtype == torch.float32 else 64, outs=power(outs, 16, 64), ins=power(ins, 16, 64))
    tensors = (grad_output, input, region_filters)
    key = ("filter_gradient", *kind_of(p))
    return tuned(key, tile, input.device, lambda tile: _gradient(p, *tensors, regions, tile))


def _gradient(
    problem: RegionConvProblem,
    grad_output: Tensor,
    input: Tensor,
    region_filters: Tensor,
    regions: Regions,
    tile: Tile,
) -> Tensor:
    p = problem
    outs, ins = p.out_channels // p.groups, p.in_channels // p.groups
    sets, set_size = regions.order.shape
    out_blocks, in_blocks = triton.cdiv(outs, tile.outs), triton.cdiv(ins, tile.ins)
    programs = sets * p.num_regions * p.groups * out_blocks * in_blocks * p.kernel_size[0] * p.kernel_size[1]
    result = empty_parts(p, region_filters, regions, programs)
    launch(
        _filter_kernel, programs * len(result), input.device,
        grad_output, input, result, regions.order, regions.ends,
        set_size, p.positions, p.output_size[1], *p.input_size, p.num_regions, outs, ins,
        out_blocks, in_blocks, len(result),
        *grad_output.stride(), *input.stride(), *result.stride()[:3], *regions.ends.stride(),
        GROUPS=p.groups, **geometry_of(p),
        PRECISION=precision(p.dtype), UPCAST=upcasts(p.dtype),
        WIDE=needs_wide((grad_output, input, result, regions.order)),
        ROWS=tile.rows, OUTS=tile.outs, INS=tile.ins, **tile.meta,
    )  # fmt: skip
    return add_parts(p, result, region_filters)


def empty_parts(problem: RegionConvProblem, region_filters: Tensor, regions: Regions, programs: int) -> Tensor:
    """Return room for the gradient of the filters, `[parts, S, M, ...]`: several parts where there are few programs."""
    p = problem
    sets, set_size = regions.order.shape
    parts = max(1, min(_PROGRAMS // max(1, programs), set_size // p.num_regions // _LEAST))
    dtype = p.dtype if parts == 1 else torch.float32
    return torch.empty((parts, sets, *region_filters.shape[-5:]), dtype=dtype, device=region_filters.device)


def add_parts(problem: RegionConvProblem, parts: Tensor, region_filters: Tensor) -> Tensor:
    """Return the sum of the parts, shaped like the filters."""
    total = parts[0] if len(parts) == 1 else parts.sum(0).to(problem.dtype)
    return total.view(region_filters.shape)
