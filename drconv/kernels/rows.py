"""Feature maps and filters as matrices: one row per position, and where each output position reads.

Shared by the backends written with PyTorch operations.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from drconv.kernels.backend import RegionConvProblem

__all__ = [
    "InputRows",
    "as_filters",
    "as_map",
    "as_matrices",
    "filter_of_position",
    "input_gradient",
    "input_rows",
    "spread",
    "wide_dtype",
]


class InputRows(NamedTuple):
    """The padded input as rows of C, and where in it each output position reads.

    Attributes:
        rows: `[B * H' * W', C]`, H' and W' being the padded size.
        origin: row read by the first tap of each position, `[B * P]`.
        taps: what to add to it for each tap, `[K*K]`.
    """

    rows: Tensor
    origin: Tensor
    taps: Tensor


def _padded_size(problem: RegionConvProblem) -> tuple[int, int]:
    (height, width), (pad_h, pad_w) = problem.input_size, problem.padding
    return height + 2 * pad_h, width + 2 * pad_w


def input_rows(problem: RegionConvProblem, input: Tensor) -> InputRows:
    """Pad the input and lay it out as rows."""
    p = problem
    height, width = _padded_size(p)
    x = F.pad(input, (p.padding[1], p.padding[1], p.padding[0], p.padding[0])) if any(p.padding) else input
    rows = x.permute(0, 2, 3, 1).reshape(-1, p.in_channels)
    batch, up, across = (torch.arange(n, device=input.device) for n in (p.batch, *p.output_size))
    down_k, across_k = (torch.arange(n, device=input.device) for n in p.kernel_size)
    start = (batch * height).view(-1, 1, 1) + up.view(-1, 1) * p.stride[0]
    origin = (start * width + across * p.stride[1]).flatten()
    taps = ((down_k * p.dilation[0]).view(-1, 1) * width + across_k * p.dilation[1]).flatten()
    return InputRows(rows, origin, taps)


def filter_of_position(problem: RegionConvProblem, guided_mask: Tensor) -> Tensor:
    """Return which of the F filters each position uses, `[B, P]`."""
    key = guided_mask.flatten(1)
    if problem.shared_filters:
        return key
    return key + problem.num_regions * torch.arange(problem.batch, device=key.device)[:, None]


def as_matrices(problem: RegionConvProblem, region_filters: Tensor) -> Tensor:
    """Return the filters as matrices `[F, G, K*K*C/G, O/G]`; F runs over samples and regions, or regions if shared."""
    filters: Tensor = region_filters.reshape(-1, *region_filters.shape[-4:])
    filters = filters.unflatten(1, (problem.groups, -1)).flatten(-2)  # [F, G, O/G, C/G, K*K]
    return filters.permute(0, 1, 4, 3, 2).flatten(2, 3)


def as_map(problem: RegionConvProblem, rows: Tensor) -> Tensor:
    """Return rows `[B*P, O]` as an output feature map `[B, O, U, V]`."""
    output = rows.to(problem.dtype).view(problem.batch, *problem.output_size, -1).permute(0, 3, 1, 2)
    return output.contiguous(memory_format=problem.memory_format)


def as_filters(problem: RegionConvProblem, grad_matrices: Tensor, region_filters: Tensor) -> Tensor:
    """Return `[F, G, K*K*C/G, O/G]` in the filters' shape, undoing `as_matrices`."""
    taps = region_filters.shape[-2] * region_filters.shape[-1]
    grad: Tensor = grad_matrices.unflatten(2, (taps, -1)).permute(0, 1, 4, 3, 2)  # [F, G, O/G, C/G, K*K]
    return grad.reshape(region_filters.shape).to(problem.dtype).contiguous()


def input_gradient(problem: RegionConvProblem, grad_source: Tensor) -> Tensor:
    """Cut the padding off and return `[B, C, H, W]`."""
    p = problem
    grad = grad_source.view(p.batch, *_padded_size(p), p.in_channels).permute(0, 3, 1, 2)
    grad = grad.narrow(2, p.padding[0], p.input_size[0]).narrow(3, p.padding[1], p.input_size[1])
    return grad.to(p.dtype).contiguous(memory_format=p.memory_format)


def spread(problem: RegionConvProblem, region_filters: Tensor) -> Tensor:
    """Return what sets each region's filter apart from their mean, for the products in half precision.

    The products may be off by a constant per position, which the softmax's gradient does not see. When filters are
    nearly equal, as at the start of training, their differences would be lost in the rounding of the whole.
    """
    if problem.dtype.itemsize >= 4:
        return region_filters
    filters = region_filters.float()
    return (filters - filters.mean(-5, keepdim=True)).to(problem.dtype)


def wide_dtype(problem: RegionConvProblem) -> torch.dtype:
    """Return the dtype for sums over taps or blocks, where half precision would lose bits."""
    return torch.promote_types(problem.dtype, torch.float32)
