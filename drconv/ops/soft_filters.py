"""The other gradient of the filters: every position teaches every region's filter, as far as it belongs to it.

The released code has it as an option, `use_alpha`, which its networks leave off.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["soft_filter_gradient", "with_soft_filter_gradient"]

# stride, padding, dilation (two integers each) and groups.
Geometry = tuple[Sequence[int], Sequence[int], Sequence[int], int]


def soft_filter_gradient(
    grad_output: Tensor, input: Tensor, guided_feature: Tensor, filters_shape: Sequence[int], geometry: Geometry
) -> Tensor:
    """Return the gradient of every region's filter, weighted by the softmax of the scores.

    With P = softmax(F) over regions, dW_j is the sum over all positions p of P_j(p) dY(p) x(p)^T, where the hard
    gradient has the positions of region j alone.

    Args:
        grad_output: dY, `[B, O, U, V]`.
        input: `[B, C, H, W]`.
        guided_feature: F, `[B, M, U, V]`.
        filters_shape: `[B, M, O, C/groups, K, K]`, or `[M, O, C/groups, K, K]` for filters shared by the batch.
        geometry: stride, padding, dilation and groups of the convolution.

    Returns:
        A tensor of that shape, in the dtype of `grad_output`.
    """
    stride, padding, dilation, groups = geometry
    *shared, regions, out_channels, in_per_group, kernel_h, kernel_w = filters_shape
    batch = grad_output.shape[0]
    input = input.to(grad_output.dtype)
    columns = F.unfold(input, (kernel_h, kernel_w), tuple(dilation), tuple(padding), tuple(stride))
    columns = columns.view(batch, groups, in_per_group * kernel_h * kernel_w, -1).transpose(2, 3)
    probabilities = guided_feature.softmax(1, dtype=torch.promote_types(guided_feature.dtype, torch.float32))
    grads = []
    for region in range(regions):
        # One region at a time: all at once would hold M outputs.
        part = grad_output * probabilities[:, region, None].to(grad_output.dtype)
        grads.append(part.reshape(batch, groups, out_channels // groups, -1) @ columns)
    grad = torch.stack(grads, 1)
    return (grad if shared else grad.sum(0)).reshape(tuple(filters_shape))


class _SoftFilterGradient(torch.autograd.Function):
    """Pass the output on, and hand the filters the soft gradient; once, as the operator itself."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, region_filters: Tensor, input: Tensor, guided_feature: Tensor, geometry: Geometry
    ) -> Tensor:
        ctx.save_for_backward(input, guided_feature)
        ctx.like = (region_filters.shape, region_filters.dtype)
        ctx.geometry = geometry
        # Not a view: the caller may write to the output in place.
        return output.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grad_filters = None
        if ctx.needs_input_grad[1]:
            input, guided_feature = ctx.saved_tensors
            shape, dtype = ctx.like
            grad_filters = soft_filter_gradient(grad_output, input, guided_feature, shape, ctx.geometry).to(dtype)
        return grad_output, grad_filters, None, None, None


def with_soft_filter_gradient(
    output: Tensor, region_filters: Tensor, input: Tensor, guided_feature: Tensor, geometry: Geometry
) -> Tensor:
    """Return `output`, made with detached filters, so that a backward pass gives them their soft gradient."""
    made: Tensor = _SoftFilterGradient.apply(  # type: ignore[no-untyped-call]
        output, region_filters, input.detach(), guided_feature.detach(), geometry
    )
    return made
