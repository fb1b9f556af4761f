"""`DynamicConv2d` (DyConv): one filter per sample, mixed from experts by an attention over them."""

from collections.abc import Mapping
from math import sqrt
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from drconv.checks import Size2d, positive
from drconv.errors import ArgumentError
from drconv.layers.base import DynamicLayer
from drconv.layers.spread import spread

__all__ = ["DynamicConv2d", "ExpertAttention", "ExpertMixture"]


class ExpertAttention(nn.Module):
    """Weights of the experts for each sample: global pool, linear, ReLU, linear, softmax(z / temperature).

    Args:
        in_channels: C.
        num_experts: E.
        reduction: the hidden width is max(1, C // reduction).
        temperature: at the start; a buffer, so that a reload keeps it.
        device: of the parameters.
        dtype: of the parameters.
    """

    temperature: Tensor

    def __init__(
        self,
        in_channels: int,
        num_experts: int,
        reduction: int = 4,
        temperature: float = 30.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        hidden = max(1, in_channels // positive("reduction", reduction))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Linear(in_channels, hidden, device=device, dtype=dtype)
        self.activation = nn.ReLU()
        self.expand = nn.Linear(hidden, num_experts, device=device, dtype=dtype)
        # Always float32: in half precision a schedule's small steps would be rounded away.
        self.register_buffer("temperature", torch.tensor(1.0, device=device, dtype=torch.float32))
        self.set_temperature(temperature)

    def set_temperature(self, temperature: float) -> None:
        """Set the softmax's temperature.

        Raises:
            ArgumentError: it is not a positive finite number.
        """
        # As float32 has it: what rounds to zero or to infinity there is refused.
        if not 1e-37 < temperature < 1e37:
            raise ArgumentError(f"temperature must be a positive number, got temperature={temperature!r}")
        self.temperature.fill_(temperature)

    def reset_parameters(self) -> None:
        """Draw both linear layers anew; the temperature stays."""
        self.reduce.reset_parameters()
        self.expand.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        """Return the experts' weights, `[B, C, H, W]` to `[B, E]`; they sum to 1."""
        logits = self.expand(self.activation(self.reduce(self.pool(input).flatten(1))))
        dtype = torch.promote_types(logits.dtype, torch.float32)
        weights: Tensor = (logits.to(dtype) / self.temperature.to(dtype)).softmax(1).to(logits.dtype)
        return weights


class ExpertMixture(nn.Module):
    """E filters and biases, and their mixture for each sample.

    Args:
        num_experts: E.
        filter_shape: (O, C/groups, K, K), rows first.
        bias: whether each expert has a bias.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self,
        num_experts: int,
        filter_shape: tuple[int, int, int, int],
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.filter_shape = filter_shape
        out_channels = filter_shape[0]
        # Three axes: `.to(memory_format=torch.channels_last)` would reject a parameter with five.
        shape = (num_experts, out_channels, filter_shape[1] * filter_shape[2] * filter_shape[3])
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(num_experts, out_channels, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every expert with He variance and set the biases to zero."""
        nn.init.normal_(self.weight, std=sqrt(2 / self.weight.shape[2]))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, weights: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mix, `[B, E]` to filters `[B, 1, O, C/groups, K, K]` and biases `[B, O]`."""
        filters = (weights @ self.weight.flatten(1)).reshape(-1, 1, *self.filter_shape)
        return filters, None if self.bias is None else weights @ self.bias

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"num_experts={self.weight.shape[0]}, filter_shape={self.filter_shape}, bias={self.bias is not None}"


class DynamicConv2d(DynamicLayer):
    r"""Dynamic convolution: one filter and one bias per sample, mixed from E experts.

    Introduced in "Dynamic Convolution: Attention over Convolution Kernels" (CVPR 2020, arXiv 1912.03458). Arguments up
    to `dtype` are those of `nn.Conv2d`, in its order. Train with a temperature that falls from 30 to 1
    (`drconv.TemperatureSchedule`).

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: one or two integers.
        stride: one or two integers.
        padding: one or two integers, `"valid"`, or `"same"` with stride 1.
        dilation: one or two integers.
        groups: channel groups; must divide C and O.
        bias: whether the experts have biases, zero at the start.
        padding_mode: `"zeros"`, `"reflect"`, `"replicate"` or `"circular"`.
        device: of the parameters.
        dtype: of the parameters.
        num_experts: E.
        reduction: the attention's hidden width is max(1, C // reduction).
        temperature: of the attention's softmax at the start; kept in the state dict.
        backend: name from `drconv.kernels.BACKENDS`; None lets every call take the first able one.

    Shape:
        input `[B, C, H, W]` or `[C, H, W]`; output `[B, O, U, V]` or `[O, U, V]`, U and V as for `nn.Conv2d`.

    Raises:
        ArgumentError: the arguments do not describe a convolution.
        UnknownNameError: no such backend.

    Example:
        >>> DynamicConv2d(24, 48, 3, padding=1)(torch.randn(2, 24, 28, 28)).shape
        torch.Size([2, 48, 28, 28])
    """

    STAGES: ClassVar[Mapping[str, str]] = {
        "attention.pool": "pool",
        "attention": "attention",
        "experts": "mixing",
        "region_conv": "convolution",
    }

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size2d,
        stride: Size2d = 1,
        padding: Size2d | str = 0,
        dilation: Size2d = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        num_experts: int = 4,
        reduction: int = 4,
        temperature: float = 30.0,
        backend: str | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, backend
        )
        self.num_experts = positive("num_experts", num_experts)
        made = {"device": device, "dtype": dtype}
        self.attention = ExpertAttention(self.in_channels, self.num_experts, reduction, temperature, **made)
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.experts = ExpertMixture(self.num_experts, shape, bias, **made)

    def reset_parameters(self) -> None:
        """Draw attention and experts anew; the temperature stays."""
        self.attention.reset_parameters()
        self.experts.reset_parameters()

    @torch.no_grad()
    def start_from(self, weight: Tensor, bias: Tensor | None) -> str | None:
        """Start as a convolution: an even mix of experts that are its filter plus noise whose sum is zero."""
        nn.init.zeros_(self.attention.expand.weight)
        nn.init.zeros_(self.attention.expand.bias)
        self.experts.weight.copy_(spread(weight.flatten(1), self.num_experts))
        if self.experts.bias is not None:
            self.experts.bias.zero_() if bias is None else self.experts.bias.copy_(bias)
        return None

    @torch.no_grad()
    def static_filter(self) -> tuple[Tensor, Tensor | None] | None:
        """Return weight and bias if the attention is constant or the experts are equal. See the base class."""
        weight, bias = self.experts.weight, self.experts.bias
        equal = [bool((t == t[:1]).all()) for t in (weight, bias) if t is not None]
        if all(equal):
            return weight[0].reshape(self.experts.filter_shape), None if bias is None else bias[0]
        if bool(self.attention.expand.weight.any()) and bool(self.attention.reduce.weight.any()):
            return None
        filters, mixed = self.experts(self.attention(weight.new_zeros(1, self.in_channels, 1, 1)))
        return filters[0, 0], None if mixed is None else mixed[0]

    @torch.no_grad()
    def absorb_affine(self, scale: Tensor, shift: Tensor) -> str | None:
        """Scale every expert and add the shift to its bias: their weights sum to 1. See the base class."""
        self.experts.weight.mul_(scale.view(1, -1, 1))
        biases = shift.expand(self.num_experts, -1)
        self.experts.bias = nn.Parameter(biases + (0 if self.experts.bias is None else self.experts.bias * scale))
        self.has_bias = True
        return None

    def forward(self, input: Tensor) -> Tensor:
        """Convolve each sample with its own filter.

        Args:
            input: `[B, C, H, W]` or `[C, H, W]`.

        Returns:
            `[B, O, U, V]`, or `[O, U, V]` for an unbatched input.

        Raises:
            ArgumentError: the shape does not fit the layer.
        """
        self.check_input(input)
        if input.dim() == 3:
            return self.forward(input[None])[0]
        filters, bias = self.experts(self.attention(input))
        # One region: the operator keeps the batch size out of the graph, which a grouped convolution would fix.
        everywhere = input.new_zeros(input.shape[0], 1, *self.output_size(input.shape[2], input.shape[3]))
        output: Tensor = self.region_conv(self.pad(input), filters, everywhere, None, self.backend)
        return output if bias is None else output + bias[..., None, None]

    def extra_repr(self) -> str:
        """Show what differs from the defaults, as `nn.Conv2d` does."""
        return f"{super().extra_repr()}, num_experts={self.num_experts}"
