"""What comes before the convolution of a whole layer: pooled input, coefficients of the filters, regions."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from drconv.kernels.layer import LayerParameters, LayerProblem
from drconv.kernels.triton.launch import launch, needs_wide, power, precision, upcasts
from drconv.kernels.triton.windows import IN_PLACE, geometry_of, multiply_window

__all__ = ["coefficients_and_mask", "pooled"]

_ROWS = 64
_CHANNELS = 32
_OUTPUTS = 32
"""Coefficients that one program makes."""


@triton.jit
def _pool_kernel(
    source, result, height, width, channels, blocks,
    source_b, source_c, source_h, source_w,
    BINS_H: tl.constexpr, BINS_W: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, OUTS: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    block, pid = pid % blocks, pid // blocks
    bin, b = pid % (BINS_H * BINS_W), pid // (BINS_H * BINS_W)
    down, across = bin // BINS_W, bin % BINS_W
    # As `adaptive_avg_pool2d` cuts: bins overlap where the size is no multiple of their number.
    top, bottom = down * height // BINS_H, tl.cdiv((down + 1) * height, BINS_H)
    left, right = across * width // BINS_W, tl.cdiv((across + 1) * width, BINS_W)
    pixels, side = (bottom - top) * (right - left), right - left
    c = block * OUTS + tl.arange(0, OUTS)
    row = tl.arange(0, ROWS)
    is_c = c < channels
    at_c = c
    if WIDE:
        b, at_c, row = b.to(tl.int64), c.to(tl.int64), row.to(tl.int64)
    total = tl.zeros((ROWS, OUTS), dtype=tl.float32)
    for first in range(0, pixels, ROWS):
        i = first + row
        at = (top + i // side) * source_h + (left + i % side) * source_w
        at = (b * source_b + at)[:, None] + (at_c * source_c)[None, :]
        total += tl.load(source + at, mask=(i < pixels)[:, None] & is_c[None, :], other=0.0).to(tl.float32)
    mean = tl.sum(total, 0) / pixels.to(tl.float32)
    tl.store(result + (b * (BINS_H * BINS_W) + bin) * channels + c, mean, mask=is_c)


def pooled(input: Tensor, bins: tuple[int, int]) -> Tensor:
    """Return the means of the input over bins, `[B, bins, C]`, float32."""
    batch, channels, height, width = input.shape
    result = torch.empty((batch, bins[0] * bins[1], channels), dtype=torch.float32, device=input.device)
    block = power(channels, 16, _CHANNELS)
    blocks = triton.cdiv(channels, block)
    launch(
        _pool_kernel, batch * result.shape[1] * blocks, input.device,
        input, result, height, width, channels, blocks, *input.stride(),
        BINS_H=bins[0], BINS_W=bins[1], WIDE=needs_wide((input,)), ROWS=_ROWS, OUTS=block, num_warps=4,
    )  # fmt: skip
    return result


@triton.jit
def _coefficients(
    means, weight, bias, result, pid, outputs, channels, blocks, scale,
    HAS_BIAS: tl.constexpr, OUTS: tl.constexpr, INS: tl.constexpr,
):  # fmt: skip
    block, row = pid % blocks, pid // blocks
    out, channel = block * OUTS + tl.arange(0, OUTS), tl.arange(0, INS)
    is_out = out < outputs
    total = tl.zeros((OUTS, INS), dtype=tl.float32)
    for first in range(0, channels, INS):
        c = first + channel
        is_c = c < channels
        w = tl.load(weight + (out * channels)[:, None] + c[None, :], mask=is_out[:, None] & is_c[None, :], other=0.0)
        total += w.to(tl.float32) * tl.load(means + row * channels + c, mask=is_c, other=0.0)[None, :]
    value = tl.sum(total, 1)
    if HAS_BIAS:
        value += tl.load(bias + out, mask=is_out, other=0.0).to(tl.float32)
    value = scale / (1.0 + tl.exp(-value))
    tl.store(result + row * outputs + out, value, mask=is_out)


@triton.jit
def _guide_kernel(
    source, weight, bias, mask, means, routing, routing_bias, coefficients,
    total_positions, positions, width, source_height, source_width, m, channels,
    guides, outputs, out_blocks, scale,
    source_b, source_c, source_h, source_w, weight_r, weight_c, weight_h, weight_w,
    KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_ROUTING_BIAS: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, WIDE: tl.constexpr,
    M: tl.constexpr, ROWS: tl.constexpr, OUTS: tl.constexpr, INS: tl.constexpr,
):  # fmt: skip
    # The programs after those of the guide make coefficients, which have as little to do with one another: one launch.
    pid = tl.program_id(0)
    if pid >= guides:
        _coefficients(
            means, routing, routing_bias, coefficients, pid - guides, outputs, channels, out_blocks, scale,
            HAS_ROUTING_BIAS, OUTS, INS,
        )  # fmt: skip
        return
    first = pid
    if WIDE:
        first = first.to(tl.int64)
    i = first * ROWS + tl.arange(0, ROWS)
    is_row = i < total_positions
    b, p = i // positions, i % positions
    top, left = (p // width) * STRIDE_H - PAD_H, (p % width) * STRIDE_W - PAD_W
    r, channel = tl.arange(0, M), tl.arange(0, INS)
    is_r = r < m
    if WIDE:
        channel = channel.to(tl.int64)
    scores = multiply_window(
        source + b * source_b, weight + r * weight_r, top, left, is_row, is_r, channels, source_height, source_width,
        source_c, source_h, source_w, weight_c, weight_h, weight_w, channel,
        KERNEL_H, KERNEL_W, DILATION_H, DILATION_W, PAD_H > 0 or PAD_W > 0, PRECISION, UPCAST, ROWS, M, INS,
    )  # fmt: skip
    if HAS_BIAS:
        scores += tl.load(bias + r, mask=is_r, other=0.0).to(tl.float32)[None, :]
    # Rounded as a guided feature in memory would be, so that the same scores are equal.
    scores = scores.to(source.dtype.element_ty).to(tl.float32)
    is_nan = (scores != scores) & is_r[None, :]
    best = tl.max(tl.where(is_r[None, :] & (scores == scores), scores, float("-inf")), 1)
    has_nan = tl.max(is_nan.to(tl.int32), 1) > 0
    is_best = (has_nan[:, None] & is_nan) | ((has_nan == 0)[:, None] & (scores == best[:, None]) & is_r[None, :])
    region = tl.min(tl.where(is_best, r[None, :], M), 1)
    tl.store(mask + i, region, mask=is_row)


def coefficients_and_mask(
    problem: LayerProblem, parameters: LayerParameters, input: Tensor, means: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what filters are mixed with, `[B, bins, M * num_mixed]`, and the regions by the layer's own guide.

    The mask `[B, U, V]` is left unwritten where a guided feature is given, for its argmax.
    """
    conv, p = problem.conv, parameters
    routing, guide = p.routing_weight, problem.guide
    outputs = conv.num_regions * problem.num_mixed
    coefficients = torch.empty((*means.shape[:2], outputs), dtype=torch.float32, device=input.device)
    mask = torch.empty((conv.batch, *conv.output_size), dtype=torch.int32, device=input.device)
    rows, ins = power(conv.positions, 16, _ROWS), power(conv.in_channels, 16, _CHANNELS)
    guides = 0 if guide is None else triton.cdiv(mask.numel(), rows)
    weight = routing if p.guide_weight is None else p.guide_weight
    steps = (0, 0, 0, 0) if p.guide_weight is None else p.guide_weight.stride()
    blocks = triton.cdiv(outputs, _OUTPUTS)
    launch(
        _guide_kernel, guides + means.shape[0] * means.shape[1] * blocks, input.device,
        input, weight, p.guide_bias, mask, means, routing, p.routing_bias, coefficients,
        mask.numel(), conv.positions, conv.output_size[1], *conv.input_size, conv.num_regions, conv.in_channels,
        guides, outputs, blocks, 2.0 / problem.num_mixed if problem.generator == "basis" else 1.0,
        *input.stride(), *steps,
        **geometry_of(guide or IN_PLACE),
        HAS_BIAS=p.guide_bias is not None, HAS_ROUTING_BIAS=p.routing_bias is not None,
        PRECISION=precision(conv.dtype), UPCAST=upcasts(conv.dtype),
        WIDE=needs_wide((input, mask)), M=power(conv.num_regions, 16, 1 << 30), ROWS=rows, OUTS=_OUTPUTS, INS=ins,
        num_warps=4, num_stages=3,
    )  # fmt: skip
    return coefficients, mask
