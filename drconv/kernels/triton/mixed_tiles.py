"""The convolution of a whole layer, whose filters are mixed inside of the tile that uses them and never written."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from drconv.kernels.layer import ACTIVATIONS, LayerParameters, LayerProblem
from drconv.kernels.triton.launch import launch, needs_wide, power, precision, upcasts
from drconv.kernels.triton.regions import Regions, find_tile, most_tiles
from drconv.kernels.triton.tiles import Tile
from drconv.kernels.triton.tuning import kind_of, tuned
from drconv.kernels.triton.windows import geometry_of, load_pixels

__all__ = ["multiply_mixed_tiles"]

_MIXED_AT_ONCE = 8


@triton.jit
def _mixed_kernel(
    source, made, made_bias, coefficients, bias, result, order, ends,
    set_size, width, source_height, source_width, m, outs, ins, mixed, tiles, blocks,
    source_b, source_c, source_h, source_w,
    made_r, made_out, made_in, made_tap, made_k, made_bias_r,
    coefficients_b, coefficients_tap,
    result_b, result_c, result_u, result_v, ends_b, ends_r,
    GROUPS: tl.constexpr, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    HAS_MADE_BIAS: tl.constexpr, HAS_BIAS: tl.constexpr, ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, WIDE: tl.constexpr,
    M: tl.constexpr, ROWS: tl.constexpr, OUTS: tl.constexpr, INS: tl.constexpr, MIXED: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    block, pid = pid % blocks, pid // blocks
    group, pid = pid % GROUPS, pid // GROUPS
    tile, b = pid % tiles, pid // tiles
    if WIDE:
        b, group = b.to(tl.int64), group.to(tl.int64)
    region, first, stop = find_tile(ends + b * ends_b, tile, ends_r, m, ROWS, M)
    if first >= stop:
        return
    slot = first + tl.arange(0, ROWS)
    is_row = slot < stop
    p = tl.load(order + b * set_size + slot, mask=is_row, other=0)
    u, v = p // width, p % width
    out = block * OUTS + tl.arange(0, OUTS)
    is_out = out < outs
    channel, k = tl.arange(0, INS), tl.arange(0, MIXED)
    if WIDE:
        u, v, region = u.to(tl.int64), v.to(tl.int64), region.to(tl.int64)
        out, channel, k = out.to(tl.int64), channel.to(tl.int64), k.to(tl.int64)
    o = group * outs + out

    top, left = u * STRIDE_H - PAD_H, v * STRIDE_W - PAD_W
    rows = source + b * source_b + group * ins * source_c
    makers = made + region * made_r + (o * made_out)[None, :, None]
    mix = coefficients + b * coefficients_b + region * mixed
    in_blocks = tl.cdiv(ins, INS)
    total = tl.zeros((ROWS, OUTS), dtype=tl.float32)
    for step in range(0, KERNEL_H * KERNEL_W * in_blocks):
        tap = step // in_blocks
        c = (step % in_blocks) * INS + channel
        down, across = tap // KERNEL_W, tap % KERNEL_W
        h, w = top + down * DILATION_H, left + across * DILATION_W
        is_in = c < ins
        x = load_pixels(
            rows, h, w, c, is_row, is_in, source_height, source_width, source_c, source_h, source_w,
            PAD_H > 0 or PAD_W > 0,
        )  # fmt: skip
        is_made = is_in[:, None] & is_out[None, :]
        y = tl.zeros((INS, OUTS), dtype=tl.float32)
        if HAS_MADE_BIAS:
            at = region * made_bias_r + (o * ins)[None, :] + c[:, None]
            y += tl.load(made_bias + at, mask=is_made, other=0.0).to(tl.float32)
        for start in range(0, mixed, MIXED):
            is_k = start + k < mixed
            s = tl.load(mix + tap * coefficients_tap + start + k, mask=is_k, other=0.0)
            g = tl.load(
                makers + (c * made_in + tap * made_tap)[:, None, None] + ((start + k) * made_k)[None, None, :],
                mask=is_made[:, :, None] & is_k[None, None, :], other=0.0,
            )  # fmt: skip
            y += tl.sum(g.to(tl.float32) * s[None, None, :], 2)
        # Rounded as a filter in memory would be.
        y = y.to(source.dtype.element_ty)
        if UPCAST:
            x, y = x.to(tl.float32), y.to(tl.float32)
        total = tl.dot(x, y, total, input_precision=PRECISION)
    if HAS_BIAS:
        total += tl.load(bias + o, mask=is_out, other=0.0).to(tl.float32)[None, :]
    if ACTIVATION == 1:
        total = tl.where(total < 0.0, 0.0, total)  # a NaN stays one
    if ACTIVATION == 2:
        total = tl.where(total < 0.0, 0.0, tl.where(total > 6.0, 6.0, total))
    if ACTIVATION == 3:
        gate = total + 3.0
        total = total * tl.where(gate < 0.0, 0.0, tl.where(gate > 6.0, 6.0, gate)) / 6.0
    at = (b * result_b + u * result_u + v * result_v)[:, None] + (o * result_c)[None, :]
    tl.store(result + at, total.to(result.dtype.element_ty), mask=is_row[:, None] & is_out[None, :])


def multiply_mixed_tiles(
    problem: LayerProblem, parameters: LayerParameters, input: Tensor, coefficients: Tensor, regions: Regions
) -> Tensor:
    """Return the layer's output `[B, O, U, V]`, bias and activation included."""
    p = problem.conv
    outs, ins = p.out_channels // p.groups, p.in_channels // p.groups
    shape = (p.batch, p.out_channels, *p.output_size)
    output = torch.empty(shape, dtype=p.dtype, device=input.device, memory_format=p.memory_format)
    tuned(
        (problem.generator, problem.num_mixed, *kind_of(p)),
        Tile(power(p.positions // p.num_regions, 16, 64), power(outs, 16, 32), power(ins, 16, 32)),
        input.device,
        lambda tile: _write_output(problem, parameters, input, coefficients, regions, output, tile),
    )
    return output


def _write_output(
    problem: LayerProblem,
    parameters: LayerParameters,
    input: Tensor,
    coefficients: Tensor,
    regions: Regions,
    output: Tensor,
    tile: Tile,
) -> None:
    p, made, made_bias = problem.conv, parameters.made_weight, parameters.made_bias
    outs, ins, taps = p.out_channels // p.groups, p.in_channels // p.groups, p.kernel_size[0] * p.kernel_size[1]
    mixed = problem.num_mixed
    size = p.out_channels * ins
    if problem.generator == "pooled":
        steps = (size * mixed, ins * mixed, mixed, 0, 1, size)
        coefficient_step = coefficients.stride(1)
    else:
        steps = (0, ins * taps, taps, 1, size * taps, 0)
        coefficient_step = 0
    tiles, blocks = most_tiles(p.positions, p.num_regions, tile.rows), triton.cdiv(outs, tile.outs)
    launch(
        _mixed_kernel, p.batch * tiles * p.groups * blocks, input.device,
        input, made, made_bias, coefficients, parameters.bias, output, regions.order, regions.ends,
        p.positions, p.output_size[1], *p.input_size, p.num_regions, outs, ins, mixed, tiles, blocks,
        *input.stride(), *steps, coefficients.stride(0), coefficient_step, *output.stride(), *regions.ends.stride(),
        GROUPS=p.groups, **geometry_of(p),
        HAS_MADE_BIAS=made_bias is not None, HAS_BIAS=parameters.bias is not None,
        ACTIVATION=ACTIVATIONS.index(problem.activation),
        PRECISION=precision(p.dtype), UPCAST=upcasts(p.dtype),
        WIDE=needs_wide((input, made, coefficients, output, regions.order)),
        M=power(p.num_regions, 2, 1 << 30), ROWS=tile.rows, OUTS=tile.outs, INS=tile.ins,
        MIXED=power(mixed, 2, _MIXED_AT_ONCE), **tile.meta,
    )  # fmt: skip
