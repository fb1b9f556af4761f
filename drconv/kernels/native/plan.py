"""What a call needs beside its tensors: sizes and strides as the kernels read them, and how much scratch memory."""

from ctypes import addressof
from functools import lru_cache

import torch
from torch import Tensor

from drconv.errors import BackendError
from drconv.kernels.backend import RegionConvProblem
from drconv.kernels.native import scratch
from drconv.kernels.native.library import Conv, Library

__all__ = [
    "NO_SCORES",
    "Plan",
    "Strides",
    "are_scores",
    "check",
    "has_even_taps",
    "is_even",
    "is_readable",
    "plan_of",
    "steps",
]

_REFUSALS = {
    1: "too little scratch memory",
    2: "the guided mask has a region outside 0..M-1",
    3: "the instruction set is not there",
}

Strides = tuple[int, ...]

NO_SCORES = (0, 0, 0)
"""Strides of the scores where a mask is given."""


class Plan:
    """The sizes of a call as the kernels read them, and the scratch memory that each kernel needs; never written to."""

    def __init__(self, native: Library, problem: RegionConvProblem, conv: Conv) -> None:
        self.native = native
        self.threads: int = conv.threads
        self.conv = conv
        self.address = addressof(conv)
        self.output_shape = (problem.batch, problem.out_channels, *problem.output_size)
        empty = torch.empty(self.output_shape, device="meta", memory_format=problem.memory_format)
        self.output_strides = empty.stride()
        self.calls = {
            name: (native.functions[name], native.functions[f"{name}_scratch"](native.isa, self.address))
            for name in ("forward", "input_gradient", "filter_gradient", "products")
        }

    def run(self, name: str, *arguments: int | None) -> None:
        """Call a kernel: `arguments` are those between the sizes and the scratch memory."""
        function, size = self.calls[name]
        memory = scratch.take(size)
        check(function(self.native.isa, self.address, *arguments, memory.address, size))
        scratch.give_back(memory)


def check(status: int) -> None:
    """Raise what a kernel's status says."""
    if status != 0:
        raise BackendError(f"backend 'native' failed: {_REFUSALS.get(status, status)}")


@lru_cache(maxsize=1024)
def plan_of(
    native: Library, p: RegionConvProblem, input: Strides, filters: Strides, scores: Strides, threads: int
) -> Plan:
    """Make the plan of calls alike: `steps` of input and scores, and the strides of the filters."""
    channels_last = p.memory_format == torch.channels_last
    (kernel_h, kernel_w), region, out, into = p.kernel_size, filters[-5], filters[-4], filters[-3]
    tap = filters[-1] if kernel_w > 1 else filters[-2] if kernel_h > 1 else 1
    conv = Conv(
        p.batch, p.in_channels, p.out_channels, p.groups, p.num_regions,
        *p.input_size, *p.output_size,
        kernel_h, kernel_w, *p.stride, *p.padding, *p.dilation,
        channels_last,
        *input,
        p.shared_filters, 0 if p.shared_filters else filters[0], region,
        out, into, tap,
        *scores,
        threads, p.dtype == torch.bfloat16,
    )  # fmt: skip
    return Plan(native, p, conv)


def is_even(tensor: Tensor) -> bool:
    """Whether the pixels of a map are evenly spaced, row after row."""
    height, width = tensor.shape[2:]
    return height <= 1 or width <= 1 or tensor.stride(2) == width * tensor.stride(3)


def steps(tensor: Tensor) -> Strides:
    """Return the strides of samples, channels and pixels of a map whose pixels are evenly spaced."""
    height, width = tensor.shape[2:]
    batch, channel, row, pixel = tensor.stride()
    return batch, channel, pixel if width > 1 else row if height > 1 else 1


def is_readable(problem: RegionConvProblem, input: Tensor) -> bool:
    """Whether pixels lie side by side in a plane, or channels in a pixel."""
    _, channel, pixel = steps(input)
    return (channel if problem.memory_format == torch.channels_last else pixel) == 1 and is_even(input)


def has_even_taps(region_filters: Tensor) -> bool:
    """Whether taps are evenly spaced; the kernels take any strides of the other axes."""
    kernel_h, kernel_w = region_filters.shape[-2:]
    return kernel_h == 1 or kernel_w == 1 or region_filters.stride(-2) == kernel_w * region_filters.stride(-1)


def are_scores(guided_feature: Tensor) -> bool:
    """Whether the kernels can read a guided feature: positions side by side, or regions."""
    return guided_feature.dtype == torch.float32 and is_even(guided_feature) and 1 in steps(guided_feature)[1:]
