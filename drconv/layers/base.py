"""What dynamic layers have in common: the geometry of `nn.Conv2d`, the operator, and names for their stages."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from drconv.checks import Size2d, conv_output_size, pair, pick, positive
from drconv.errors import ArgumentError
from drconv.kernels import BACKENDS
from drconv.layers.region_conv import RegionConv2d

__all__ = ["DynamicLayer", "RegionLayer", "set_backend"]

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class DynamicLayer(nn.Module):
    """Base of the layers whose filters depend on the input: a convolution in all but where its filters come from.

    Not a subclass of `nn.Conv2d`, and without its `.weight`: code that initialises, prunes or folds the weights of
    every `nn.Conv2d` would do the wrong thing here.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: one or two integers.
        stride: one or two integers.
        padding: one or two integers, `"valid"`, or `"same"` with stride 1.
        dilation: one or two integers.
        groups: channel groups; must divide C and O.
        has_bias: whether the layer adds a bias.
        padding_mode: as in `nn.Conv2d`.
        backend: name from `drconv.kernels.BACKENDS`, or None.

    Attributes:
        region_conv: the operator; called once per forward pass with what was used.
        backend: name, or None for the first able one; read at every call.
        STAGES: submodule path -> stage of the layer, for reports.

    Raises:
        ArgumentError: the arguments do not describe a convolution.
        UnknownNameError: no backend has that name.
    """

    STAGES: ClassVar[Mapping[str, str]] = {"region_conv": "convolution"}

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size2d,
        stride: Size2d,
        padding: Size2d | str,
        dilation: Size2d,
        groups: int,
        has_bias: bool,
        padding_mode: str,
        backend: str | None,
    ) -> None:
        super().__init__()
        self.in_channels = positive("in_channels", in_channels)
        self.out_channels = positive("out_channels", out_channels)
        self.groups = positive("groups", groups)
        for name in ("in_channels", "out_channels"):
            channels = getattr(self, name)
            if channels % self.groups:
                raise ArgumentError(f"{name} must be divisible by groups, got {name}={channels}, groups={self.groups}")
        self.kernel_size = pair("kernel_size", kernel_size, 1)
        self.stride = pair("stride", stride, 1)
        self.dilation = pair("dilation", dilation, 1)
        self.padding_mode = pick("padding_mode", padding_mode, _PADDING_MODES)
        self.padding = padding if isinstance(padding, str) else pair("padding", padding, 0)
        self.has_bias = has_bias
        self.backend = backend
        if backend is not None:
            BACKENDS[backend]
        self._margins = _margins(self.padding, self.kernel_size, self.stride, self.dilation)
        # The operator pads with the same zeros on both sides; anything else is padded before it.
        (top, bottom), (left, right) = self._margins
        self._pads_inside = padding_mode == "zeros" and top == bottom and left == right
        inside = (top, left) if self._pads_inside else (0, 0)
        self.region_conv = RegionConv2d(self.stride, inside, self.dilation, self.groups)

    @classmethod
    def like(cls, conv: nn.Conv2d, **keywords: Any) -> "DynamicLayer":
        """Make a layer with the geometry, device and dtype of a convolution, and fresh parameters.

        Args:
            conv: whose arguments are taken over.
            **keywords: the layer's own.
        """
        make: Callable[..., DynamicLayer] = cls
        return make(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            conv.bias is not None,
            conv.padding_mode,
            device=conv.weight.device,
            dtype=conv.weight.dtype,
            **keywords,
        )

    @classmethod
    def objection(cls, conv: nn.Conv2d) -> str | None:
        """Return why `drconv.convert` leaves a convolution alone unless it is asked for; None if it does not."""
        return None

    def start_from(self, weight: Tensor, bias: Tensor | None) -> str | None:
        """Set the parameters so that the layer starts as a convolution, and can still learn to be more.

        Args:
            weight: `[O, C/groups, K, K]`.
            bias: `[O]`; None is zero.

        Returns:
            None if the layer's output is now that of the convolution, else why it is not.
        """
        return f"{type(self).__name__} has no way to start from a convolution's weights"

    def static_filter(self) -> tuple[Tensor, Tensor | None] | None:
        """Return weight `[O, C/groups, K, K]` and bias `[O]` of the convolution that the layer is.

        None if it is none, because its filter depends on the region or on the input.
        """
        return None

    def absorb_affine(self, scale: Tensor, shift: Tensor) -> str | None:
        """Change the parameters so that output channel o becomes scale[o] times what it was, plus shift[o].

        Args:
            scale: `[O]`.
            shift: `[O]`.

        Returns:
            None if it is done, else why it cannot be; then nothing has changed.
        """
        return f"{type(self).__name__} has no way to take over a scale and a shift"

    def stage_of(self, path: str) -> str:
        """Return the stage of a submodule, given its path within the layer.

        The longest entry of `STAGES` that leads to the path counts; what the layer does itself (its bias, the resizing
        of a shared guide) belongs to the convolution.
        """
        while path:
            if path in self.STAGES:
                return self.STAGES[path]
            path = path.rpartition(".")[0]
        return "convolution"

    def check_input(self, input: Tensor) -> None:
        """Raise `ArgumentError` unless the input is `[B, C, H, W]` or `[C, H, W]`."""
        if input.dim() not in (3, 4) or input.shape[-3] != self.in_channels:
            raise ArgumentError(
                f"input must be [B, {self.in_channels}, H, W] or [{self.in_channels}, H, W], got {list(input.shape)}"
            )

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return (U, V) for an input of H x W; `ArgumentError` if the kernel does not fit."""
        sizes = []
        for axis, length in enumerate((height, width)):
            padded = length + sum(self._margins[axis])
            size = conv_output_size(padded, self.kernel_size[axis], self.stride[axis], 0, self.dilation[axis])
            if size < 1:
                raise ArgumentError(
                    f"the kernel must fit into the padded input, got an input of {height}x{width} for "
                    f"kernel_size={self.kernel_size}, padding={self.padding!r}, dilation={self.dilation}"
                )
            sizes.append(size)
        return sizes[0], sizes[1]

    def prefers_channels_last(self) -> bool:
        """Return whether the layer was converted to channels_last, so that its output is, as that of `nn.Conv2d`.

        Seen from the first parameter with four axes; without one the output's layout is the input's.
        """
        for parameter in self.parameters():
            if parameter.dim() == 4:
                # Also 1x1 weights, which are contiguous in either layout, tell it by their strides.
                return parameter.shape[1] > 1 and parameter.stride()[1::2] == (1, parameter.shape[1])
        return False

    def pad(self, input: Tensor) -> Tensor:
        """Return the input with the padding that the operator does not do itself."""
        (top, bottom), (left, right) = self._margins
        if self._pads_inside or not any((top, bottom, left, right)):
            return input
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        return F.pad(input, (left, right, top, bottom), mode=mode)

    def extra_repr(self) -> str:
        """Show what differs from the defaults, as `nn.Conv2d` does."""
        parts = [f"{self.in_channels}, {self.out_channels}", f"kernel_size={self.kernel_size}", f"stride={self.stride}"]
        shown = {"padding": (0, 0), "dilation": (1, 1), "groups": 1, "padding_mode": "zeros", "backend": None}
        parts += [f"{name}={value!r}" for name, default in shown.items() if (value := getattr(self, name)) != default]
        if not self.has_bias:
            parts.append("bias=False")
        return ", ".join(parts)


class RegionLayer(DynamicLayer):
    """Base of the layers that give each region a filter; what can be recorded.

    Attributes:
        num_regions: M.
        filter_generator: module from the input to region filters.
    """

    STAGES: ClassVar[Mapping[str, str]] = {
        "filter_generator.pool": "pool",
        "filter_generator": "generator",
        "guide": "guide",
        "region_conv": "convolution",
    }

    num_regions: int
    filter_generator: nn.Module

    @classmethod
    def objection(cls, conv: nn.Conv2d) -> str | None:
        """Object to depthwise convolutions: scoring M regions costs M times as much as they do."""
        if conv.groups == conv.in_channels > 1:
            return "depthwise: its guide would cost num_regions times as much as the convolution"
        return None


def set_backend(model: nn.Module, backend: str | None) -> nn.Module:
    """Set the backend of every dynamic layer of a model.

    Args:
        model: any module; other layers are left alone.
        backend: name from `drconv.kernels.BACKENDS`; None lets every call choose the first able one.

    Returns:
        The same model.

    Raises:
        UnknownNameError: no backend has that name.
    """
    if backend is not None:
        BACKENDS[backend]
    for module in model.modules():
        if isinstance(module, DynamicLayer):
            module.backend = backend
    return model


def _margins(
    padding: str | tuple[int, int], kernel_size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return ((top, bottom), (left, right)); "same" puts an odd margin's extra row below and right, as `nn.Conv2d`."""
    if not isinstance(padding, str):
        return (padding[0], padding[0]), (padding[1], padding[1])
    if pick("padding", padding, ("same", "valid")) == "valid":
        return (0, 0), (0, 0)
    if tuple(stride) != (1, 1):
        raise ArgumentError(f"padding='same' needs stride 1, got stride={tuple(stride)}")
    totals = [d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True)]
    (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in totals)
    return (top, bottom), (left, right)
