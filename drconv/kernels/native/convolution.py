"""Forward and backward pass by the compiled kernels: lay tensors out as these want them, give memory, call."""

from ctypes import addressof
from functools import lru_cache

import torch
from torch import Tensor

from drconv.errors import BackendError
from drconv.kernels.backend import Gradients, RegionConvProblem
from drconv.kernels.native.library import Conv, Library, load

__all__ = ["backward", "forward", "guided_mask", "madds"]

_REFUSALS = {
    1: "too little scratch memory",
    2: "the guided mask has a region outside 0..M-1",
    3: "the instruction set is not there",
}

_NO_ACTIVATION = 0

_Strides = tuple[int, ...]


def madds(problem: RegionConvProblem) -> int:
    """Return what `forward` executes: one filter per position."""
    return problem.madds


def guided_mask(guided_feature: Tensor) -> Tensor:
    """Return the region of every position, `[B, U, V]` in int32, by the rule of `drconv.ops.guided_mask`."""
    if guided_feature.dtype != torch.float32:
        return guided_feature.argmax(1).to(torch.int32)
    if not _is_even(guided_feature) or 1 not in _steps(guided_feature)[1:]:
        guided_feature = guided_feature.contiguous()
    native = load()
    batch, regions, height, width = guided_feature.shape
    sizes = (batch, regions, height * width, *_steps(guided_feature), native.threads())
    mask = torch.empty((batch, height, width), dtype=torch.int32)
    _check(native.functions["argmax"](native.isa, guided_feature.data_ptr(), *sizes, mask.data_ptr()))
    return mask


def forward(
    problem: RegionConvProblem,
    input: Tensor,
    region_filters: Tensor,
    guided_mask: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """Sort positions by region, and multiply each region's rows by its filter; add the bias to what is stored."""
    native, p = load(), problem
    x, filters, mask = _laid_out(p, input), _filters(region_filters), _mask(guided_mask)
    plan = _plan(native, p, _steps(x), filters.stride(), native.threads())
    output = torch.empty(plan.output_shape, dtype=torch.float32, memory_format=p.memory_format)
    added = None if bias is None else bias.contiguous()
    epilogue = (None if added is None else added.data_ptr(), _NO_ACTIVATION)
    _run(native, plan, "forward", x, filters, mask, output, *epilogue)
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
    native, p = load(), problem
    x, filters, mask = _laid_out(p, input), _filters(region_filters), _mask(guided_mask)
    grad = grad_output.contiguous(memory_format=p.memory_format)
    plan = _plan(native, p, _steps(x), filters.stride(), native.threads())
    grad_input = grad_filters = products = None
    if wanted[0]:
        shape = (p.batch, p.in_channels, *p.input_size)
        grad_input = torch.empty(shape, dtype=torch.float32, memory_format=p.memory_format)
        _run(native, plan, "input_gradient", grad, filters, mask, grad_input)
    if wanted[1]:
        grad_filters = torch.empty(region_filters.shape, dtype=torch.float32)
        _run(native, plan, "filter_gradient", grad, x, mask, grad_filters)
    if wanted[2]:
        products = torch.empty((p.batch, p.num_regions, *p.output_size), dtype=torch.float32)
        _run(native, plan, "products", grad, x, filters, products)
    return Gradients(grad_input, grad_filters, products)


class _Plan:
    """The sizes of a call as the kernels read them, and the scratch memory that each kernel needs; never written to."""

    def __init__(self, native: Library, conv: Conv) -> None:
        self.conv = conv
        self.address = addressof(conv)
        self.output_shape = (conv.batch, conv.out_channels, conv.out_height, conv.out_width)
        self.calls = {
            name: (native.functions[name], native.functions[f"{name}_scratch"](native.isa, self.address))
            for name in ("forward", "input_gradient", "filter_gradient", "products")
        }


def _run(
    native: Library,
    plan: _Plan,
    name: str,
    first: Tensor,
    second: Tensor,
    third: Tensor,
    out: Tensor,
    *epilogue: int | None,
) -> None:
    function, size = plan.calls[name]
    # The kernels align what they cut out of it to 64 bytes, counted from its start, as torch aligns that.
    scratch = torch.empty(size, dtype=torch.uint8)
    _check(
        function(
            native.isa, plan.address, first.data_ptr(), second.data_ptr(), third.data_ptr(), *epilogue,
            out.data_ptr(), scratch.data_ptr(), size,
        )
    )  # fmt: skip


def _check(status: int) -> None:
    if status != 0:
        raise BackendError(f"backend 'native' failed: {_REFUSALS.get(status, status)}")


@lru_cache(maxsize=1024)
def _plan(native: Library, p: RegionConvProblem, steps: _Strides, filters: _Strides, threads: int) -> _Plan:
    channels_last = p.memory_format == torch.channels_last
    (kernel_h, kernel_w), region, out, into = p.kernel_size, filters[-5], filters[-4], filters[-3]
    tap = filters[-1] if kernel_w > 1 else filters[-2] if kernel_h > 1 else 1
    conv = Conv(
        p.batch, p.in_channels, p.out_channels, p.groups, p.num_regions,
        *p.input_size, *p.output_size,
        kernel_h, kernel_w, *p.stride, *p.padding, *p.dilation,
        channels_last,
        *steps,
        p.shared_filters, 0 if p.shared_filters else filters[0], region,
        out, into, tap,
        threads,
    )  # fmt: skip
    return _Plan(native, conv)


def _is_even(tensor: Tensor) -> bool:
    """Whether the pixels of a map are evenly spaced, row after row."""
    height, width = tensor.shape[2:]
    return height <= 1 or width <= 1 or tensor.stride(2) == width * tensor.stride(3)


def _steps(tensor: Tensor) -> _Strides:
    """Return the strides of samples, channels and pixels of a map whose pixels are evenly spaced."""
    height, width = tensor.shape[2:]
    batch, channel, row, pixel = tensor.stride()
    return batch, channel, pixel if width > 1 else row if height > 1 else 1


def _laid_out(problem: RegionConvProblem, input: Tensor) -> Tensor:
    """Return the input as the kernels can read it: pixels side by side in a plane, or channels in a pixel."""
    _, channel, pixel = _steps(input)
    adjacent = channel if problem.memory_format == torch.channels_last else pixel
    return input if adjacent == 1 and _is_even(input) else input.clone(memory_format=problem.memory_format)


def _filters(region_filters: Tensor) -> Tensor:
    """Return the filters with evenly spaced taps; the kernels take any strides of the other axes."""
    kernel_h, kernel_w = region_filters.shape[-2:]
    even = kernel_h == 1 or kernel_w == 1 or region_filters.stride(-2) == kernel_w * region_filters.stride(-1)
    return region_filters if even else region_filters.contiguous()


def _mask(guided_mask: Tensor) -> Tensor:
    if guided_mask.dtype == torch.int32 and guided_mask.is_contiguous():
        return guided_mask
    return guided_mask.to(torch.int32).contiguous()
