"""The guide's products: what every filter gives at every position, times the output's gradient, in natural order."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from drconv.kernels.backend import RegionConvProblem
from drconv.kernels.triton.forward import set_step
from drconv.kernels.triton.launch import launch, needs_wide, precision, upcasts
from drconv.kernels.triton.tiles import Tile, dense_tile
from drconv.kernels.triton.tuning import kind_of, tuned
from drconv.kernels.triton.windows import geometry_of, multiply_window

__all__ = ["products"]


@triton.jit
def _products_kernel(
    grad, source, filters, result,
    positions, width, source_height, source_width, m, outs, ins, tiles,
    grad_b, grad_c, grad_u, grad_v, source_b, source_c, source_h, source_w,
    filter_s, filter_r, filter_out, filter_in, filter_h, filter_w,
    GROUPS: tl.constexpr, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, OUTS: tl.constexpr, INS: tl.constexpr,
):  # fmt: skip
    # Regions run fastest, so that programs that read the same rows are neighbours.
    pid = tl.program_id(0)
    region, pid = pid % m, pid // m
    tile, b = pid % tiles, pid // tiles
    p = tile * ROWS + tl.arange(0, ROWS)
    is_row = p < positions
    u, v = p // width, p % width
    out, channel = tl.arange(0, OUTS), tl.arange(0, INS)
    if WIDE:
        b, region, p = b.to(tl.int64), region.to(tl.int64), p.to(tl.int64)
        u, v, out, channel = u.to(tl.int64), v.to(tl.int64), out.to(tl.int64), channel.to(tl.int64)
    top, left = u * STRIDE_H - PAD_H, v * STRIDE_W - PAD_W
    grads = grad + b * grad_b + u * grad_u + v * grad_v
    matrices = filters + b * filter_s + region * filter_r
    out_blocks = tl.cdiv(outs, OUTS)
    product = tl.zeros((ROWS,), dtype=tl.float32)
    for block in range(0, GROUPS * out_blocks):
        group = block // out_blocks
        o = (block % out_blocks) * OUTS + out
        is_o = o < outs
        o = group * outs + o
        rows = source + b * source_b + group * ins * source_c
        matrix = matrices + o * filter_out
        total = multiply_window(
            rows, matrix, top, left, is_row, is_o, ins, source_height, source_width,
            source_c, source_h, source_w, filter_in, filter_h, filter_w, channel,
            KERNEL_H, KERNEL_W, DILATION_H, DILATION_W, PAD_H > 0 or PAD_W > 0, PRECISION, UPCAST, ROWS, OUTS, INS,
        )  # fmt: skip
        g = tl.load(grads[:, None] + (o * grad_c)[None, :], mask=is_row[:, None] & is_o[None, :], other=0.0)
        product += tl.sum(total * g.to(tl.float32), 1)
    tl.store(result + (b * m + region) * positions + p, product, mask=is_row)


def products(problem: RegionConvProblem, grad_output: Tensor, input: Tensor, region_filters: Tensor) -> Tensor:
    """Return <grad_output, filter j applied here>, up to a constant per position, `[B, M, U, V]`, float32."""
    p = problem
    outs, ins = p.out_channels // p.groups, p.in_channels // p.groups
    filters = region_filters
    if precision(p.dtype) == "tf32":
        # When filters are nearly equal, their differences would be lost in the rounding of the whole to tf32. Half
        # precision rounds nothing before it multiplies.
        filters = filters - filters.mean(-5, keepdim=True)
    result = torch.empty((p.batch, p.num_regions, *p.output_size), dtype=torch.float32, device=input.device)
    tuned(
        ("products", *kind_of(p)),
        dense_tile(p, outs, ins),
        input.device,
        lambda tile: _write_products(p, grad_output, input, filters, result, tile),
    )
    return result


def _write_products(
    problem: RegionConvProblem, grad_output: Tensor, input: Tensor, filters: Tensor, result: Tensor, tile: Tile
) -> None:
    p = problem
    outs, ins = p.out_channels // p.groups, p.in_channels // p.groups
    tiles = triton.cdiv(p.positions, tile.rows)
    launch(
        _products_kernel, p.batch * tiles * p.num_regions, input.device,
        grad_output, input, filters, result,
        p.positions, p.output_size[1], *p.input_size, p.num_regions, outs, ins, tiles,
        *grad_output.stride(), *input.stride(), set_step(p, filters), *filters.stride()[-5:],
        GROUPS=p.groups, **geometry_of(p),
        PRECISION=precision(p.dtype), UPCAST=upcasts(p.dtype),
        WIDE=needs_wide((grad_output, input, filters, result)),
        ROWS=tile.rows, OUTS=tile.outs, INS=tile.ins, **tile.meta,
    )  # fmt: skip
