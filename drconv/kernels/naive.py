"""All M filters everywhere, then the mask: how the popular re-implementation computes it, and the yardstick."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

from drconv.kernels.backend import Gradients, RegionConvProblem

__all__ = ["backward", "forward"]


def _all_filters(problem: RegionConvProblem, region_filters: Tensor) -> Tensor:
    """Return the filters as one bank `[B*G*M*O/G, C/G, K, K]`, channel groups outside, for one grouped convolution."""
    p = problem
    filters: Tensor = region_filters.expand(p.batch, *region_filters.shape[-5:])
    filters = filters.unflatten(2, (p.groups, p.out_channels // p.groups)).transpose(1, 2)  # [B, G, M, O/G, C/G, K, K]
    return filters.flatten(0, 3)


def _ungroup(problem: RegionConvProblem, outputs: Tensor) -> Tensor:
    """Return the bank's output `[1, B*G*M*O/G, U, V]` as `[B, M, O, U, V]`."""
    p = problem
    outputs = outputs.view(p.batch, p.groups, p.num_regions, p.out_channels // p.groups, *p.output_size)
    return outputs.transpose(1, 2).flatten(2, 3)


def _convolve_all(problem: RegionConvProblem, input: Tensor, bank: Tensor) -> Tensor:
    """Return what every filter gives at every position, `[B, M, O, U, V]`."""
    p = problem
    x = input.reshape(1, p.batch * p.in_channels, *p.input_size)
    return _ungroup(p, F.conv2d(x, bank, None, p.stride, p.padding, p.dilation, p.batch * p.groups))


def _one_hot(problem: RegionConvProblem, guided_mask: Tensor) -> Tensor:
    regions = torch.arange(problem.num_regions, device=guided_mask.device).view(-1, 1, 1)
    return (guided_mask[:, None] == regions)[:, :, None]  # [B, M, 1, U, V]


def forward(problem: RegionConvProblem, input: Tensor, region_filters: Tensor, guided_mask: Tensor) -> Tensor:
    """Apply every filter to every position, then keep one result per position."""
    outputs = _convolve_all(problem, input, _all_filters(problem, region_filters))
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
    bank = _all_filters(p, region_filters)
    x = input.reshape(1, p.batch * p.in_channels, *p.input_size)
    masked = torch.where(_one_hot(p, guided_mask), grad_output[:, None], 0)  # [B, M, O, U, V]
    masked = masked.unflatten(2, (p.groups, -1)).transpose(1, 2).reshape(1, -1, *p.output_size)
    settings = (p.stride, p.padding, p.dilation, p.batch * p.groups)
    grad_x = grad_filters = products = None
    if wanted[0]:
        grad_x = conv2d_input(x.shape, bank, masked, *settings).view(input.shape)
        grad_x = grad_x.contiguous(memory_format=p.memory_format)
    if wanted[1]:
        grad_bank = conv2d_weight(x, bank.shape, masked, *settings)
        shape = (p.batch, p.groups, p.num_regions, p.out_channels // p.groups, *bank.shape[1:])
        grad_filters = grad_bank.view(shape).transpose(1, 2).flatten(2, 3).contiguous()
        if p.shared_filters:
            grad_filters = grad_filters.sum(0)
    if wanted[2]:
        outputs = _convolve_all(p, input, bank)
        products = (outputs.float() if p.dtype.itemsize < 4 else outputs).mul(grad_output[:, None]).sum(2)
    return Gradients(grad_x, grad_filters, products)
