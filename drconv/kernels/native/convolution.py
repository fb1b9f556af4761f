"""Forward and backward pass by the compiled kernels: lay tensors out as these want them, give memory, call."""

import torch
from torch import Tensor

from drconv.kernels.backend import Gradients, RegionConvProblem
from drconv.kernels.native.library import load
from drconv.kernels.native.plan import (
    NO_SCORES,
    Plan,
    Strides,
    are_scores,
    check,
    has_even_taps,
    is_readable,
    plan_of,
    steps,
)
from drconv.kernels.native.scratch import give_back, take

__all__ = ["backward", "forward", "guided_mask", "madds", "prepare"]

_NO_ACTIVATION = 0


def madds(problem: RegionConvProblem) -> int:
    """Return what `forward` executes: one filter per position."""
    return problem.madds


def guided_mask(guided_feature: Tensor) -> Tensor:
    """Return the region of every position, `[B, U, V]` in int32, by the rule of `drconv.ops.guided_mask`."""
    if guided_feature.dtype != torch.float32:
        return guided_feature.argmax(1).to(torch.int32)
    if not are_scores(guided_feature):
        guided_feature = guided_feature.contiguous()
    native = load()
    batch, regions, height, width = guided_feature.shape
    sizes = (batch, regions, height * width, *steps(guided_feature), native.threads())
    mask = torch.empty((batch, height, width), dtype=torch.int32)
    check(native.functions["argmax"](native.isa, guided_feature.data_ptr(), *sizes, mask.data_ptr()))
    return mask


def forward(
    problem: RegionConvProblem,
    input: Tensor,
    region_filters: Tensor,
    guided_mask: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """Sort positions by region, and multiply each region's rows by its filter; add the bias to what is stored."""
    x, filters, mask, plan = _readable(problem, input, region_filters, guided_mask)
    output = x.new_empty_strided(plan.output_shape, plan.output_strides)
    added = _as_added(bias)
    plan.run(
        "forward", x.data_ptr(), filters.data_ptr(), mask.data_ptr(), None,
        None if added is None else added.data_ptr(), _NO_ACTIVATION, output.data_ptr(),
    )  # fmt: skip
    return output


def backward(
    problem: RegionConvProblem,
    grad_output: Tensor,
    input: Tensor,
    region_filters: Tensor,
    guided_mask: Tensor,
    wanted: tuple[bool, bool, bool],
) -> Gradients:
    """Run one kernel for each gradient that is wanted."""
    p = problem
    x, filters, mask, plan = _readable(p, input, region_filters, guided_mask)
    grad = grad_output.contiguous(memory_format=p.memory_format)
    grad_input = grad_filters = products = None
    if wanted[0]:
        shape = (p.batch, p.in_channels, *p.input_size)
        grad_input = torch.empty(shape, dtype=p.dtype, memory_format=p.memory_format)
        _run(plan, "input_gradient", grad, filters, mask, grad_input)
    if wanted[1]:
        grad_filters = torch.empty(region_filters.shape, dtype=p.dtype)
        _run(plan, "filter_gradient", grad, x, mask, grad_filters)
    if wanted[2]:
        products = torch.empty((p.batch, p.num_regions, *p.output_size), dtype=torch.float32)
        _run(plan, "products", grad, x, filters, products)
    return Gradients(grad_input, grad_filters, products)


def prepare(
    problem: RegionConvProblem, input: Tensor, region_filters: Tensor, guided_feature: Tensor
) -> "_Prepared | None":
    """Return the forward pass of calls alike, or None where tensors must be copied before the kernels can read them."""
    readable = is_readable(problem, input) and has_even_taps(region_filters) and are_scores(guided_feature)
    return _Prepared(problem, input, region_filters, guided_feature) if readable else None


class _Prepared:
    """From scores to output in one call of the kernels, whose sizes and strides were found out before."""

    def __init__(
        self, problem: RegionConvProblem, input: Tensor, region_filters: Tensor, guided_feature: Tensor
    ) -> None:
        self._problem = problem
        self._strides: tuple[Strides, ...] = (steps(input), region_filters.stride(), steps(guided_feature))
        native = load()
        self._plan = plan_of(native, problem, *self._strides, native.threads())

    def __call__(self, input: Tensor, region_filters: Tensor, guided_feature: Tensor, bias: Tensor | None) -> Tensor:
        native, plan = load(), self._plan
        threads = native.threads()
        if plan.native is not native or plan.threads != threads:
            plan = self._plan = plan_of(native, self._problem, *self._strides, threads)
        output = input.new_empty_strided(plan.output_shape, plan.output_strides)
        function, size = plan.calls["forward"]
        memory = take(size)
        added = _as_added(bias)
        status = function(
            native.isa, plan.address, input.data_ptr(), region_filters.data_ptr(), None, guided_feature.data_ptr(),
            None if added is None else added.data_ptr(), _NO_ACTIVATION, output.data_ptr(), memory.address, size,
        )  # fmt: skip
        give_back(memory)
        if status:
            check(status)
        return output


def _as_added(bias: Tensor | None) -> Tensor | None:
    """Return the bias as the kernels add it, to their float32 sums."""
    return None if bias is None else bias.to(torch.float32).contiguous()


def _readable(
    problem: RegionConvProblem, input: Tensor, region_filters: Tensor, guided_mask: Tensor
) -> tuple[Tensor, Tensor, Tensor, Plan]:
    """Return input, filters and mask as the kernels can read them, and the plan of the call."""
    native = load()
    x = input if is_readable(problem, input) else input.clone(memory_format=problem.memory_format)
    filters = region_filters if has_even_taps(region_filters) else region_filters.contiguous()
    mask = guided_mask
    if mask.dtype != torch.int32 or not mask.is_contiguous():
        mask = mask.to(torch.int32).contiguous()
    return x, filters, mask, plan_of(native, problem, steps(x), filters.stride(), NO_SCORES, native.threads())


def _run(plan: Plan, name: str, first: Tensor, second: Tensor, third: Tensor, out: Tensor) -> None:
    plan.run(name, first.data_ptr(), second.data_ptr(), third.data_ptr(), out.data_ptr())
