"""What the kernels share: how positions read their windows, and what they make of them with a filter."""

import triton
import triton.language as tl

from drconv.kernels.backend import RegionConvProblem
from drconv.kernels.layer import Geometry

__all__ = ["IN_PLACE", "geometry_of", "load_pixels", "multiply_window"]

IN_PLACE = Geometry((1, 1), (1, 1), (0, 0), (1, 1))
"""Every position reads the pixel that it lies on."""


def geometry_of(windows: Geometry | RegionConvProblem) -> dict[str, int]:
    """Return the compile-time values of kernels that read windows."""
    w = windows
    return {
        "KERNEL_H": w.kernel_size[0], "KERNEL_W": w.kernel_size[1], "STRIDE_H": w.stride[0], "STRIDE_W": w.stride[1],
        "PAD_H": w.padding[0], "PAD_W": w.padding[1], "DILATION_H": w.dilation[0], "DILATION_W": w.dilation[1],
    }  # fmt: skip


@triton.jit
def load_pixels(
    rows, h, w, c, is_row, is_c, height, width, step_c, step_h, step_w, PADDED: tl.constexpr
):  # fmt: skip
    """Return channels `c` of pixels (h, w), `[ROWS, C]`; zero for those that lie outside of the map."""
    seen = is_row
    if PADDED:
        seen = is_row & (h >= 0) & (h < height) & (w >= 0) & (w < width)
    at = (rows + h * step_h + w * step_w)[:, None] + (c * step_c)[None, :]
    return tl.load(at, mask=seen[:, None] & is_c[None, :], other=0.0)


@triton.jit
def multiply_window(
    rows, matrix, top, left, is_row, is_out, ins, height, width,
    step_c, step_h, step_w, filter_in, filter_h, filter_w, channel,
    KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    PADDED: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    ROWS: tl.constexpr, OUTS: tl.constexpr, INS: tl.constexpr,
):  # fmt: skip
    """Return the sum over taps and channels of windows times a filter, `[ROWS, OUTS]`, float32.

    `rows` points to pixel (0, 0) of each row's map, `matrix` to each output's filter; windows begin at (top, left);
    `channel` counts from 0 to INS in the width that offsets must have.
    """
    in_blocks = tl.cdiv(ins, INS)
    total = tl.zeros((ROWS, OUTS), dtype=tl.float32)
    for step in range(0, KERNEL_H * KERNEL_W * in_blocks):
        tap = step // in_blocks
        c = (step % in_blocks) * INS + channel
        down, across = tap // KERNEL_W, tap % KERNEL_W
        h, w = top + down * DILATION_H, left + across * DILATION_W
        is_in = c < ins
        x = load_pixels(rows, h, w, c, is_row, is_in, height, width, step_c, step_h, step_w, PADDED)
        y = tl.load(
            matrix[None, :] + (c * filter_in + down * filter_h + across * filter_w)[:, None],
            mask=is_in[:, None] & is_out[None, :], other=0.0,
        )  # fmt: skip
        if UPCAST:
            x, y = x.to(tl.float32), y.to(tl.float32)
        total = tl.dot(x, y, total, input_precision=PRECISION)
    return total
