"""The definition: every other backend is tested against this one. Slow and obvious."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

from drconv.kernels.backend import Gradients, RegionConvProblem

__all__ = ["backward", "forward", "madds"]


def _exact(problem: RegionConvProblem, tensor: Tensor) -> Tensor:
    # Metal has no float64.
    return tensor.to(torch.float32 if problem.device_type == "mps" else torch.float64)


def madds(problem: RegionConvProblem) -> int:
    """Return what `forward` executes: every filter at every position."""
    return problem.num_regions * problem.madds


def forward(problem: RegionConvProblem, input: Tensor, region_filters: Tensor, guided_mask: Tensor) -> Tensor:
    """Convolve each sample with each of its filters and keep, at each position, the one of its region."""
    x, filters = _exact(problem, input), _exact(problem, region_filters)
    y = x.new_zeros(problem.batch, problem.out_channels, *problem.output_size)
    for b in range(problem.batch):
        for j in range(problem.num_regions):
            y_j = _convolve(problem, x[b], filters[j] if problem.shared_filters else filters[b, j])  # [O, U, V]
            y[b] = torch.where(guided_mask[b] == j, y_j, y[b])
    return y.to(problem.dtype).contiguous(memory_format=problem.memory_format)


def backward(
    problem: RegionConvProblem,
    grad_output: Tensor,
    input: Tensor,
    region_filters: Tensor,
    guided_mask: Tensor,
    wanted: tuple[bool, bool, bool],
) -> Gradients:
    """Sum the gradients of the convolutions above, each seeing the output gradient of its own region only."""
    x, filters, g = (_exact(problem, t) for t in (input, region_filters, grad_output))
    grad_x, grad_filters = torch.zeros_like(x), torch.zeros_like(filters)
    products = x.new_zeros(problem.batch, problem.num_regions, *problem.output_size)
    settings = (problem.stride, problem.padding, problem.dilation, problem.groups)
    for b in range(problem.batch):
        for j in range(problem.num_regions):
            w = filters[j] if problem.shared_filters else filters[b, j]
            g_j = torch.where(guided_mask[b] == j, g[b], 0)[None]
            if wanted[0]:
                grad_x[b] += conv2d_input(x[b : b + 1].shape, w, g_j, *settings)[0]
            if wanted[1]:
                grad_w = conv2d_weight(x[b : b + 1], w.shape, g_j, *settings)
                grad_filters[j if problem.shared_filters else (b, j)] += grad_w
            if wanted[2]:
                products[b, j] = (g[b] * _convolve(problem, x[b], w)).sum(0)
    dtype = torch.promote_types(problem.dtype, torch.float32)
    return Gradients(
        grad_x.to(problem.dtype).contiguous(memory_format=problem.memory_format) if wanted[0] else None,
        grad_filters.to(problem.dtype).contiguous() if wanted[1] else None,
        products.to(dtype) if wanted[2] else None,
    )


def _convolve(problem: RegionConvProblem, x: Tensor, w: Tensor) -> Tensor:
    return F.conv2d(x[None], w, None, problem.stride, problem.padding, problem.dilation, problem.groups)[0]
