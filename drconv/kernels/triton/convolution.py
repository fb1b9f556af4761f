"""Forward and backward pass by the Triton kernels."""

from torch import Tensor

from drconv.kernels.backend import Gradients, RegionConvProblem
from drconv.kernels.triton import depthwise
from drconv.kernels.triton.filter_gradient import filter_gradient
from drconv.kernels.triton.forward import forward as dense_forward
from drconv.kernels.triton.input_gradient import input_gradient
from drconv.kernels.triton.products import products
from drconv.kernels.triton.regions import Regions, guided_mask, sort_positions

__all__ = ["backward", "forward", "guided_mask", "madds"]


def madds(problem: RegionConvProblem) -> int:
    """Return what `forward` executes: one filter per position."""
    return problem.madds


def _is_depthwise(problem: RegionConvProblem) -> bool:
    return problem.in_channels == problem.out_channels == problem.groups > 1


def _regions(problem: RegionConvProblem, guided_mask: Tensor) -> Regions:
    return sort_positions(guided_mask, 1 if problem.shared_filters else problem.batch, problem.num_regions)


def forward(
    problem: RegionConvProblem,
    input: Tensor,
    region_filters: Tensor,
    guided_mask: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """Multiply tiles of positions of one region by its filter; depthwise, look values up by region in natural order."""
    if _is_depthwise(problem):
        return depthwise.forward(problem, input, region_filters, guided_mask, bias)
    return dense_forward(problem, input, region_filters, bias, _regions(problem, guided_mask))


def backward(
    problem: RegionConvProblem,
    grad_output: Tensor,
    input: Tensor,
    region_filters: Tensor,
    guided_mask: Tensor,
    wanted: tuple[bool, bool, bool],
) -> Gradients:
    """Run what the gradients that are wanted need; each is a sum in a fixed order."""
    p, is_depthwise = problem, _is_depthwise(problem)
    found: list[Tensor | None] = [None, None, None]
    if wanted[0] and is_depthwise:
        found[0] = depthwise.input_gradient(p, grad_output, region_filters, guided_mask)
    if wanted[1] or (wanted[0] and not is_depthwise):
        regions = _regions(p, guided_mask)
        if wanted[0] and not is_depthwise:
            found[0] = input_gradient(p, grad_output, region_filters, guided_mask, regions)
        if wanted[1]:
            gradient = depthwise.filter_gradient if is_depthwise else filter_gradient
            found[1] = gradient(p, grad_output, input, region_filters, regions)
    if wanted[2]:
        found[2] = (depthwise.products if is_depthwise else products)(p, grad_output, input, region_filters)
    return Gradients(*found)
