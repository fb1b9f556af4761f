"""The small parts that several families are built of, with the parameter names of torchvision."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SqueezeExcitation", "conv_unit", "round_channels"]


def conv_unit(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    stride: int = 1,
    *,
    groups: int = 1,
    bias: bool = False,
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    activation: Callable[[], nn.Module] | None = None,
) -> nn.Sequential:
    """Return convolution, normalisation and, unless it is None, activation; the padding keeps the size at stride 1."""
    padding = kernel_size // 2
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias)
    unit = nn.Sequential(conv, norm(out_channels))
    if activation is not None:
        unit.append(activation())
    return unit


def round_channels(channels: float) -> int:
    """Return the multiple of 8 that the MobileNets use for a scaled width: the nearest, but no more than 10 % less."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


class SqueezeExcitation(nn.Module):
    """Scale each channel by a number in 0..1 that two 1x1 convolutions make of the pooled input.

    Args:
        channels: of input and output.
        squeezed: channels in between.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, input: Tensor) -> Tensor:
        """Return the scaled input, `[B, C, H, W]`."""
        scale = F.hardsigmoid(self.fc2(F.relu(self.fc1(self.pool(input)))))
        return input * scale
