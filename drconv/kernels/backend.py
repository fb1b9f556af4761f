"""What a backend is, and what it is asked to do."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import NamedTuple

import torch
from torch import Tensor

from drconv.errors import ArgumentError
from drconv.kernels.layer import Inference, LayerParameters, LayerProblem

__all__ = ["Backend", "Gradients", "Prepared", "RegionConvProblem", "memory_format_of"]


@dataclass(frozen=True)
class RegionConvProblem:
    """Sizes and settings of one region convolution; everything a backend may object to.

    Attributes:
        device_type: "cpu", "cuda", ...
        dtype: of input, filters and output.
        batch, in_channels, out_channels, groups, num_regions: B, C, O, channel groups, M.
        input_size, output_size: (H, W) and (U, V).
        kernel_size, stride, padding, dilation: rows first, as in `nn.Conv2d`.
        shared_filters: the filters carry no batch axis.
        memory_format: layout of the output and of the input's gradient.
    """

    device_type: str
    dtype: torch.dtype
    batch: int
    in_channels: int
    out_channels: int
    groups: int
    num_regions: int
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    shared_filters: bool
    memory_format: torch.memory_format

    @property
    def positions(self) -> int:
        """Output positions of one sample, U * V."""
        return self.output_size[0] * self.output_size[1]

    @property
    def madds(self) -> int:
        """Multiply-adds of one filter per output position."""
        per_position = self.out_channels * self.in_channels // self.groups * self.kernel_size[0] * self.kernel_size[1]
        return self.batch * self.positions * per_position

    @classmethod
    def of(
        cls,
        input: Tensor,
        region_filters: Tensor,
        output_size: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> "RegionConvProblem":
        """Read the sizes off tensors that `check_region_conv` has accepted."""
        batch, in_channels, height, width = input.shape
        num_regions, out_channels, _, kernel_h, kernel_w = region_filters.shape[-5:]
        return cls(
            device_type=input.device.type,
            dtype=input.dtype,
            batch=batch,
            in_channels=in_channels,
            out_channels=out_channels,
            groups=groups,
            num_regions=num_regions,
            input_size=(height, width),
            output_size=output_size,
            kernel_size=(kernel_h, kernel_w),
            stride=stride,
            padding=padding,
            dilation=dilation,
            shared_filters=region_filters.dim() == 5,
            memory_format=memory_format_of(input),
        )


class Gradients(NamedTuple):
    """What a backend's backward returns; None where it was not asked for.

    Attributes:
        input: `[B, C, H, W]`.
        region_filters: shaped like the filters.
        products: `[B, M, U, V]`, float32 or wider, <grad_output, filter j applied here> for every region j, up to a
            constant per position: the gradient of the one-hot mask, from which `ops` makes that of the guided feature.
    """

    input: Tensor | None
    region_filters: Tensor | None
    products: Tensor | None


Forward = Callable[..., Tensor]
"""(problem, input, region_filters, guided_mask [B, U, V]) -> output without bias; see `Backend.adds_bias`."""

Backward = Callable[[RegionConvProblem, Tensor, Tensor, Tensor, Tensor, tuple[bool, bool, bool]], Gradients]
"""(problem, grad_output, input, region_filters, guided_mask, which gradients are wanted) -> gradients."""

Prepared = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""(input, region_filters, guided_feature, bias) -> output; for tensors with the sizes, strides, dtypes and devices of
those it was prepared for. The output is no view of anything."""


@dataclass(frozen=True)
class Backend:
    """One way to compute a region convolution.

    Attributes:
        name: as users write it.
        module: where its `forward`, `backward` and `madds` live; imported on first use.
        device_types: devices it runs on; None means any that PyTorch has.
        dtypes: dtypes it takes.
        automatic: whether it may be picked when no backend is named.
        only_named_on: devices on which it may not, although it may on others.
        objection: further reasons not to run a problem; None is no objection.
        own_mask: whether its module also has `guided_mask`, equal to that of `ops` but faster, and in any integer dtype
            that its `forward` and `backward` take.
        adds_bias: whether its `forward` takes the bias `[O]`, or None, as a fifth argument and adds it. Else the
            operator does, in a pass of its own.
        prepares: whether its module also has `prepare(problem, input, region_filters, guided_feature)`, which finds out
            once what calls alike need, and returns a `Prepared`.
        inference: where its `prepare(problem, parameters, input, guided_feature)` lives, which does the same for whole
            layers and returns an `Inference`, or None where tensors would have to be copied; None if it has none.
        inference_objection: further reasons not to run a whole layer.
    """

    name: str
    module: str
    device_types: tuple[str, ...] | None
    dtypes: tuple[torch.dtype, ...]
    automatic: bool
    objection: Callable[[RegionConvProblem], str | None] = lambda problem: None
    own_mask: bool = False
    adds_bias: bool = False
    prepares: bool = False
    inference: str | None = None
    inference_objection: Callable[[LayerProblem], str | None] = lambda problem: None
    only_named_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or not self.dtypes:
            raise ArgumentError(f"a backend needs an identifier as name and at least one dtype, got {self!r}")

    def is_automatic(self, device_type: str) -> bool:
        """Return whether it may be picked on a device when no backend is named."""
        runs_there = self.device_types is None or device_type in self.device_types
        return self.automatic and runs_there and device_type not in self.only_named_on

    def why_not(self, problem: RegionConvProblem) -> str | None:
        """Return the reason why this backend cannot run a problem, or None if it can."""
        if self.device_types is not None and problem.device_type not in self.device_types:
            return f"it runs on {', '.join(self.device_types)}, not on {problem.device_type}"
        if problem.dtype not in self.dtypes:
            return f"it takes {', '.join(str(d).removeprefix('torch.') for d in self.dtypes)}, not {problem.dtype}"
        return self.objection(problem)

    def forward(self) -> Forward:
        """Return the forward function, importing its module on first use."""
        function: Forward = import_module(self.module).forward
        return function

    def guided_mask(self) -> Callable[[Tensor], Tensor] | None:
        """Return the module's own way from scores to regions, importing it on first use, or None if it has none."""
        if not self.own_mask:
            return None
        function: Callable[[Tensor], Tensor] = import_module(self.module).guided_mask
        return function

    def prepare(
        self, problem: RegionConvProblem, input: Tensor, region_filters: Tensor, guided_feature: Tensor
    ) -> Prepared | None:
        """Return the module's whole forward pass for calls alike, importing it on first use, or None if it has none."""
        if not self.prepares:
            return None
        prepared: Prepared = import_module(self.module).prepare(problem, input, region_filters, guided_feature)
        return prepared

    def madds(self, problem: RegionConvProblem) -> int:
        """Return the multiply-adds that the forward function executes, importing its module on first use."""
        count: int = import_module(self.module).madds(problem)
        return count

    def why_not_infer(self, problem: LayerProblem) -> str | None:
        """Return the reason why this backend cannot run a whole layer in one call, or None if it can."""
        if self.inference is None:
            return "it has no call for a whole layer"
        return self.why_not(problem.conv) or self.inference_objection(problem)

    def prepare_inference(
        self, problem: LayerProblem, parameters: LayerParameters, input: Tensor, guided_feature: Tensor | None
    ) -> Inference | None:
        """Return the call of a whole layer that `why_not_infer` has no objection to, importing its module on first use.

        None if tensors would have to be copied before it could read them.
        """
        if self.inference is None:
            return None
        module = import_module(self.inference)
        prepared: Inference | None = module.prepare(problem, parameters, input, guided_feature)
        return prepared

    def backward(self) -> Backward:
        """Return the backward function, importing its module on first use."""
        function: Backward = import_module(self.module).backward
        return function


def memory_format_of(tensor: Tensor) -> torch.memory_format:
    """Return channels_last where the strides of a `[B, C, H, W]` tensor run that way, else contiguous.

    Every backend and every fake function takes the layout of its outputs from here, so that they cannot differ.
    A slice of channels of a channels_last tensor counts as channels_last; where both layouts fit, contiguous wins.
    """
    channels, height, width = tensor.shape[1:]
    stride_c, stride_h, stride_w = tensor.stride()[1:]
    if channels == 1 or height * width == 1 or height * width == 0:
        return torch.contiguous_format
    spatial = [s for s, n in ((stride_w, width), (stride_h, height)) if n > 1]
    is_channels_last = stride_c == 1 and spatial[0] >= channels and spatial == sorted(spatial)
    return torch.channels_last if is_channels_last else torch.contiguous_format
