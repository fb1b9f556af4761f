"""Depthwise convolutions: one value per channel and tap, looked up by region. Only the filters' gradient sorts."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from drconv.kernels.backend import RegionConvProblem
from drconv.kernels.triton.filter_gradient import add_parts, empty_parts, part_of_region
from drconv.kernels.triton.forward import set_step
from drconv.kernels.triton.launch import launch, needs_wide, power
from drconv.kernels.triton.regions import Regions
from drconv.kernels.triton.tiles import Tile, pixel_tile
from drconv.kernels.triton.windows import geometry_of

__all__ = ["filter_gradient", "forward", "input_gradient", "products"]


@triton.jit
def _pixels(width, pixels, tiles, blocks, channels, WIDE: tl.constexpr, ROWS: tl.constexpr, OUTS: tl.constexpr):
    """Return sample, pixel number, row, column, channel, and which pixels and channels there are."""
    pid = tl.program_id(0)
    block, pid = pid % blocks, pid // blocks
    tile, b = pid % tiles, pid // tiles
    p = tile * ROWS + tl.arange(0, ROWS)
    c = block * OUTS + tl.arange(0, OUTS)
    is_row, is_c = p < pixels, c < channels
    u, v = p // width, p % width
    if WIDE:
        b, p, u, v, c = b.to(tl.int64), p.to(tl.int64), u.to(tl.int64), v.to(tl.int64), c.to(tl.int64)
    return b, p, u, v, c, is_row, is_c


@triton.jit
def _forward_kernel(
    source, filters, mask, bias, result,
    positions, width, source_height, source_width, channels, tiles, blocks,
    source_b, source_c, source_h, source_w, filter_s, filter_r, filter_c, filter_h, filter_w,
    result_b, result_c, result_u, result_v,
    KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    HAS_BIAS: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, OUTS: tl.constexpr,
):  # fmt: skip
    b, p, u, v, c, is_row, is_c = _pixels(width, positions, tiles, blocks, channels, WIDE, ROWS, OUTS)
    region = tl.load(mask + b * positions + p, mask=is_row, other=0)
    if WIDE:
        region = region.to(tl.int64)
    values = (filters + b * filter_s + region * filter_r)[:, None] + (c * filter_c)[None, :]
    rows = source + b * source_b + (c * source_c)[None, :]
    total = tl.zeros((ROWS, OUTS), dtype=tl.float32)
    for tap in range(0, KERNEL_H * KERNEL_W):
        down, across = tap // KERNEL_W, tap % KERNEL_W
        h, w = u * STRIDE_H - PAD_H + down * DILATION_H, v * STRIDE_W - PAD_W + across * DILATION_W
        seen = is_row & (h >= 0) & (h < source_height) & (w >= 0) & (w < source_width)
        seen = seen[:, None] & is_c[None, :]
        x = tl.load(rows + (h * source_h + w * source_w)[:, None], mask=seen, other=0.0)
        y = tl.load(values + (down * filter_h + across * filter_w), mask=seen, other=0.0)
        total += x.to(tl.float32) * y.to(tl.float32)
    if HAS_BIAS:
        total += tl.load(bias + c, mask=is_c, other=0.0).to(tl.float32)[None, :]
    at = (b * result_b + u * result_u + v * result_v)[:, None] + (c * result_c)[None, :]
    tl.store(result + at, total.to(result.dtype.element_ty), mask=is_row[:, None] & is_c[None, :])


def forward(
    problem: RegionConvProblem, input: Tensor, region_filters: Tensor, guided_mask: Tensor, bias: Tensor | None
) -> Tensor:
    """Return the output `[B, C, U, V]`."""
    p = problem
    shape = (p.batch, p.out_channels, *p.output_size)
    output = torch.empty(shape, dtype=p.dtype, device=input.device, memory_format=p.memory_format)
    mask, tile = guided_mask.contiguous(), pixel_tile(p.positions, p.out_channels)
    tiles, blocks = triton.cdiv(p.positions, tile.rows), triton.cdiv(p.out_channels, tile.outs)
    launch(
        _forward_kernel, p.batch * tiles * blocks, input.device,
        input, region_filters, mask, bias, output,
        p.positions, p.output_size[1], *p.input_size, p.out_channels, tiles, blocks,
        *input.stride(), *_filter_steps(p, region_filters), *output.stride(),
        HAS_BIAS=bias is not None, WIDE=needs_wide((input, region_filters, mask, output)), **_geometry(p, tile),
    )  # fmt: skip
    return output


@triton.jit
def _input_kernel(
    grad, filters, mask, result,
    height, width, grad_height, grad_width, channels, tiles, blocks,
    grad_b, grad_c, grad_u, grad_v, filter_s, filter_r, filter_c, filter_h, filter_w,
    result_b, result_c, result_h, result_w,
    KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    WIDE: tl.constexpr, ROWS: tl.constexpr, OUTS: tl.constexpr,
):  # fmt: skip
    b, _, h, w, c, is_row, is_c = _pixels(width, height * width, tiles, blocks, channels, WIDE, ROWS, OUTS)
    values = filters + b * filter_s + (c * filter_c)[None, :]
    grads = grad + b * grad_b + (c * grad_c)[None, :]
    total = tl.zeros((ROWS, OUTS), dtype=tl.float32)
    for tap in range(0, KERNEL_H * KERNEL_W):
        # Which position reads this pixel by this tap, if one does.
        down, across = tap // KERNEL_W, tap % KERNEL_W
        up, left = h + PAD_H - down * DILATION_H, w + PAD_W - across * DILATION_W
        u, v = up // STRIDE_H, left // STRIDE_W
        reads = is_row & (up >= 0) & (left >= 0) & (u < grad_height) & (v < grad_width)
        reads = reads & (u * STRIDE_H == up) & (v * STRIDE_W == left)
        region = tl.load(mask + (b * grad_height + u) * grad_width + v, mask=reads, other=0)
        if WIDE:
            region = region.to(tl.int64)
        reads = reads[:, None] & is_c[None, :]
        g = tl.load(grads + (u * grad_u + v * grad_v)[:, None], mask=reads, other=0.0)
        at = (region * filter_r + down * filter_h + across * filter_w)[:, None]
        y = tl.load(values + at, mask=reads, other=0.0)
        total += g.to(tl.float32) * y.to(tl.float32)
    at = (b * result_b + h * result_h + w * result_w)[:, None] + (c * result_c)[None, :]
    tl.store(result + at, total.to(result.dtype.element_ty), mask=is_row[:, None] & is_c[None, :])


def input_gradient(
    problem: RegionConvProblem, grad_output: Tensor, region_filters: Tensor, guided_mask: Tensor
) -> Tensor:
    """Return the gradient of the input: every pixel asks which positions have read it."""
    p = problem
    shape = (p.batch, p.in_channels, *p.input_size)
    result = torch.empty(shape, dtype=p.dtype, device=grad_output.device, memory_format=p.memory_format)
    mask, pixels = guided_mask.contiguous(), p.input_size[0] * p.input_size[1]
    tile = pixel_tile(pixels, p.in_channels)
    tiles, blocks = triton.cdiv(pixels, tile.rows), triton.cdiv(p.in_channels, tile.outs)
    launch(
        _input_kernel, p.batch * tiles * blocks, result.device,
        grad_output, region_filters, mask, result,
        *p.input_size, *p.output_size, p.in_channels, tiles, blocks,
        *grad_output.stride(), *_filter_steps(p, region_filters), *result.stride(),
        WIDE=needs_wide((grad_output, region_filters, mask, result)), **_geometry(p, tile),
    )  # fmt: skip
    return result


@triton.jit
def _filter_kernel(
    grad, source, result, order, ends,
    set_size, positions, width, source_height, source_width, m, channels, blocks, parts,
    grad_b, grad_c, grad_u, grad_v, source_b, source_c, source_h, source_w,
    result_part, result_s, result_r, ends_s, ends_r,
    KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    WIDE: tl.constexpr, ROWS: tl.constexpr, OUTS: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    tap, pid = pid % (KERNEL_H * KERNEL_W), pid // (KERNEL_H * KERNEL_W)
    block, pid = pid % blocks, pid // blocks
    part, pid = pid % parts, pid // parts
    region, s = pid % m, pid // m
    down, across = tap // KERNEL_W, tap % KERNEL_W
    c = block * OUTS + tl.arange(0, OUTS)
    is_c = c < channels
    if WIDE:
        s, part, region, c = s.to(tl.int64), part.to(tl.int64), region.to(tl.int64), c.to(tl.int64)
    first, stop = part_of_region(ends + s * ends_s, region, ends_r, part, parts, ROWS)
    total = tl.zeros((ROWS, OUTS), dtype=tl.float32)
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
        seen = seen[:, None] & is_c[None, :]
        g = tl.load(
            grad + (b * grad_b + u * grad_u + v * grad_v)[:, None] + (c * grad_c)[None, :], mask=seen, other=0.0
        )
        x = tl.load(
            source + (b * source_b + h * source_h + w * source_w)[:, None] + (c * source_c)[None, :],
            mask=seen, other=0.0,
        )  # fmt: skip
        total += g.to(tl.float32) * x.to(tl.float32)
    at = part * result_part + s * result_s + region * result_r + (c * KERNEL_H + down) * KERNEL_W + across
    tl.store(result + at, tl.sum(total, 0).to(result.dtype.element_ty), mask=is_c)


def filter_gradient(
    problem: RegionConvProblem, grad_output: Tensor, input: Tensor, region_filters: Tensor, regions: Regions
) -> Tensor:
    """Return the gradient of the filters, shaped like them."""
    p = problem
    sets, set_size = regions.order.shape
    tile = Tile(rows=32, outs=power(p.out_channels, 16, 64), ins=1)
    blocks = triton.cdiv(p.out_channels, tile.outs)
    programs = sets * p.num_regions * blocks * p.kernel_size[0] * p.kernel_size[1]
    result = empty_parts(p, region_filters, regions, programs)
    launch(
        _filter_kernel, programs * len(result), input.device,
        grad_output, input, result, regions.order, regions.ends,
        set_size, p.positions, p.output_size[1], *p.input_size, p.num_regions, p.out_channels, blocks, len(result),
        *grad_output.stride(), *input.stride(), *result.stride()[:3], *regions.ends.stride(),
        WIDE=needs_wide((grad_output, input, result, regions.order)), **_geometry(p, tile),
    )  # fmt: skip
    return add_parts(p, result, region_filters)


@triton.jit
def _products_kernel(
    grad, source, filters, result,
    positions, width, source_height, source_width, m, channels, tiles,
    grad_b, grad_c, grad_u, grad_v, source_b, source_c, source_h, source_w,
    filter_s, filter_r, filter_c, filter_h, filter_w,
    KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    WIDE: tl.constexpr, M: tl.constexpr, ROWS: tl.constexpr, OUTS: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    m_blocks = tl.cdiv(m, M)
    m_block, pid = pid % m_blocks, pid // m_blocks
    tile, b = pid % tiles, pid // tiles
    p = tile * ROWS + tl.arange(0, ROWS)
    r = m_block * M + tl.arange(0, M)
    channel = tl.arange(0, OUTS)
    is_row, is_r = p < positions, r < m
    u, v = p // width, p % width
    if WIDE:
        b, p, u, v = b.to(tl.int64), p.to(tl.int64), u.to(tl.int64), v.to(tl.int64)
        r, channel = r.to(tl.int64), channel.to(tl.int64)
    total = tl.zeros((ROWS, M), dtype=tl.float32)
    for start in range(0, channels, OUTS):
        c = start + channel
        is_c = c < channels
        g = tl.load(
            grad + (b * grad_b + u * grad_u + v * grad_v)[:, None] + (c * grad_c)[None, :],
            mask=is_row[:, None] & is_c[None, :], other=0.0,
        ).to(tl.float32)  # fmt: skip
        for tap in range(0, KERNEL_H * KERNEL_W):
            down, across = tap // KERNEL_W, tap % KERNEL_W
            h, w = u * STRIDE_H - PAD_H + down * DILATION_H, v * STRIDE_W - PAD_W + across * DILATION_W
            seen = is_row & (h >= 0) & (h < source_height) & (w >= 0) & (w < source_width)
            x = tl.load(
                source + (b * source_b + h * source_h + w * source_w)[:, None] + (c * source_c)[None, :],
                mask=seen[:, None] & is_c[None, :], other=0.0,
            )  # fmt: skip
            y = tl.load(
                filters + b * filter_s + (r * filter_r)[None, :]
                + (c * filter_c + down * filter_h + across * filter_w)[:, None],
                mask=is_c[:, None] & is_r[None, :], other=0.0,
            )  # fmt: skip
            # What was multiplied once is float32 whatever came in, and stays exact.
            total = tl.dot(g * x.to(tl.float32), y.to(tl.float32), total, input_precision="ieee")
    at = ((b * m + r) * positions)[None, :] + p[:, None]
    tl.store(result + at, total, mask=is_row[:, None] & is_r[None, :])


def products(problem: RegionConvProblem, grad_output: Tensor, input: Tensor, region_filters: Tensor) -> Tensor:
    """Return <grad_output, filter j applied here>, `[B, M, U, V]`, float32."""
    p = problem
    result = torch.empty((p.batch, p.num_regions, *p.output_size), dtype=torch.float32, device=input.device)
    tile = Tile(rows=power(p.positions, 16, 64), outs=power(p.out_channels, 16, 32), ins=1)
    tiles, regions = triton.cdiv(p.positions, tile.rows), power(p.num_regions, 16, 64)
    launch(
        _products_kernel, p.batch * tiles * triton.cdiv(p.num_regions, regions), input.device,
        grad_output, input, region_filters, result,
        p.positions, p.output_size[1], *p.input_size, p.num_regions, p.out_channels, tiles,
        *grad_output.stride(), *input.stride(), *_filter_steps(p, region_filters),
        WIDE=needs_wide((grad_output, input, region_filters, result)), M=regions, **_geometry(p, tile),
    )  # fmt: skip
    return result


def _filter_steps(problem: RegionConvProblem, region_filters: Tensor) -> tuple[int, ...]:
    region, channel, _, down, across = region_filters.stride()[-5:]
    return set_step(problem, region_filters), region, channel, down, across


def _geometry(problem: RegionConvProblem, tile: Tile) -> dict[str, int]:
    return {**geometry_of(problem), "ROWS": tile.rows, "OUTS": tile.outs, **tile.meta}
