"""All M filters everywhere, then the mask: how the popular re-implementation computes it, and the yardstick."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

from drconv.kernels.backend import Gradients, RegionConvProblem
from drconv.kernels.rows import spread

__all__ = ["backward", "forward", "madds"]


def _sets(problem: RegionConvProblem) -> int:
    """Return how many samples have filters of their own: all, or one for the whole batch if they are shared."""
    return 1 if problem.shared_filters else problem.batch


def _bank(problem: RegionConvProblem, region_filters: Tensor) -> Tensor:
    """Return the filters as one bank `[S*G*M*O/G, C/G, K, K]`, channel groups outside, for one grouped convolution."""
    p = problem
    filters: Tensor = region_filters.view(_sets(p), *region_filters.shape[-5:])
    filters = filters.unflatten(2, (p.groups, p.out_channels // p.groups)).transpose(1, 2)  # [S, G, M, O/G, C/G, K, K]
    return filters.flatten(0, 3)


def _side_by_side(problem: RegionConvProblem, input: Tensor) -> Tensor:
    """Return the samples with filters of their own as channels of one, `[B/S, S*C, H, W]`."""
    sets = _sets(problem)
    return input.reshape(problem.batch // sets, sets * problem.in_channels, *problem.input_size)


def _convolve_all(problem: RegionConvProblem, x: Tensor, bank: Tensor) -> Tensor:
    """Return what every filter gives at every position, `[B, M, O, U, V]`."""
    p = problem
    outputs = F.conv2d(x, bank, None, p.stride, p.padding, p.dilation, _sets(p) * p.groups)
    outputs = outputs.view(p.batch, p.groups, p.num_regions, p.out_channels // p.groups, *p.output_size)
    return outputs.transpose(1, 2).flatten(2, 3)


def _one_hot(problem: RegionConvProblem, guided_mask: Tensor) -> Tensor:
    regions = torch.arange(problem.num_regions, device=guided_mask.device).view(-1, 1, 1)
    return (guided_mask[:, None] == regions)[:, :, None]  # [B, M, 1, U, V]


def madds(problem: RegionConvProblem) -> int:
    """Return what `forward` executes: every filter at every position."""
    return problem.num_regions * problem.madds


def forward(problem: RegionConvProblem, input: Tensor, region_filters: Tensor, guided_mask: Tensor) -> Tensor:
    """Apply every filter to every position, then keep one result per position."""
    outputs = _convolve_all(problem, _side_by_side(problem, input), _bank(problem, region_filters))
    if problem.num_regions == 1:
        return outputs[:, 0].contiguous(memory_format=problem.memory_format)
    # Not a product with the mask: 0 * inf of a filter that was not chosen would be NaN.
    y = torch.where(_one_hot(problem, guided_mask), outputs, 0).sum(1)
    return y.contiguous(memory_format=problem.memory_format)


def backward(
    problem: RegionConvProblem,
    grad_output: Tensor,
    input: Tensor,
    region_filters: Tensor,
    guided_mask: Tensor,
    wanted: tuple[bool, bool, bool],
) -> Gradients:
    """Run the grouped convolution's own backward on the masked gradient of all M outputs."""
    p = problem
    bank, x = _bank(p, region_filters), _side_by_side(p, input)
    masked = torch.where(_one_hot(p, guided_mask), grad_output[:, None], 0)  # [B, M, O, U, V]
    masked = masked.unflatten(2, (p.groups, -1)).transpose(1, 2).reshape(x.shape[0], -1, *p.output_size)
    settings = (p.stride, p.padding, p.dilation, _sets(p) * p.groups)
    grad_x = grad_filters = products = None
    if wanted[0]:
        grad_x = conv2d_input(x.shape, bank, masked, *settings).view(input.shape)
        grad_x = grad_x.contiguous(memory_format=p.memory_format)
    if wanted[1]:
        grad_bank = conv2d_weight(x, bank.shape, masked, *settings)
        shape = (_sets(p), p.groups, p.num_regions, p.out_channels // p.groups, *bank.shape[1:])
        grad_filters = grad_bank.view(shape).transpose(1, 2).flatten(2, 3).reshape(region_filters.shape).contiguous()
    if wanted[2]:
        outputs = _convolve_all(p, x, _bank(p, spread(p, region_filters)))
        products = (outputs.float() if p.dtype.itemsize < 4 else outputs).mul(grad_output[:, None]).sum(2)
    return Gradients(grad_x, grad_filters, products)
