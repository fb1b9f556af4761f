"""The calls that are checked and timed: sizes, and tensors drawn for them."""

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from drconv.checks import conv_output_size

__all__ = ["LAYOUTS", "MAPS", "Case", "Drawn", "draw"]

LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
MAPS = ("random", "smooth", "single", "half")
"""Regions drawn per position, in blobs, all alike, and with every second one never occurring."""


@dataclass(frozen=True)
class Case:
    """Sizes and settings of a call, as in `nn.Conv2d`, all square."""

    name: str
    channels: int
    outs: int
    size: tuple[int, int]
    batch: int = 2
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    regions: int = 8
    shared: bool = False
    maps: str = "random"
    layout: str = "NCHW"

    @property
    def settings(self) -> dict[str, int]:
        """What `region_conv2d` and `conv2d` take."""
        return {
            "stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups,
        }  # fmt: skip

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        height, width = (
            conv_output_size(side, self.kernel, self.stride, self.padding, self.dilation) for side in self.size
        )
        return height, width

    def with_(self, **other: Any) -> "Case":
        """Return a case that differs."""
        return replace(self, **other)


@dataclass
class Drawn:
    """Tensors of a case: input, filters, scores, bias, and the gradient of the output."""

    x: Tensor
    filters: Tensor
    scores: Tensor
    bias: Tensor
    grad: Tensor

    @property
    def leaves(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What gets gradients."""
        return self.x, self.filters, self.scores, self.bias

    def double(self) -> "Drawn":
        """Return the same values in float64, input and gradient in their layout."""
        return Drawn(*(t.detach().double() for t in (self.x, self.filters, self.scores, self.bias, self.grad)))


def draw(case: Case, device: torch.device, dtype: torch.dtype) -> Drawn:
    """Draw fresh tensors from PyTorch's generator."""
    made: dict[str, Any] = {"device": device, "dtype": dtype}
    form = LAYOUTS[case.layout]
    sets = () if case.shared else (case.batch,)
    length = case.channels // case.groups * case.kernel**2
    return Drawn(
        torch.randn(case.batch, case.channels, *case.size, **made).contiguous(memory_format=form),
        torch.randn(*sets, case.regions, case.outs, case.channels // case.groups, case.kernel, case.kernel, **made)
        .mul_(length**-0.5),
        _scores(case, device).to(dtype),
        torch.randn(case.outs, **made),
        torch.randn(case.batch, case.outs, *case.output_size, **made).contiguous(memory_format=form),
    )  # fmt: skip


def _scores(case: Case, device: torch.device) -> Tensor:
    sizes = (case.batch, case.regions)
    if case.maps == "smooth":
        coarse = [max(1, side // 8) for side in case.output_size]
        return F.interpolate(torch.randn(*sizes, *coarse, device=device), case.output_size, mode="bilinear")
    scores = torch.randn(*sizes, *case.output_size, device=device)
    if case.maps == "single":
        scores[:, case.regions // 2] += 100
    elif case.maps == "half":
        scores[:, ::2] -= 100
    return scores
