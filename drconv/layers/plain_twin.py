"""The plain twin of a model: what its dynamic layers are compared with."""

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

from drconv.layers.activation import ACTIVATIONS
from drconv.layers.base import DynamicLayer
from drconv.layers.drconv2d import DRConv2d
from drconv.layers.guide import GuideConv2d
from drconv.layers.replace import replace_modules

__all__ = ["UnguidedConv2d", "plain_like", "plain_twin"]

_Conv = TypeVar("_Conv", bound=nn.Conv2d)


class UnguidedConv2d(nn.Conv2d):
    """`nn.Conv2d` in the place of a layer that may be handed a shared guided feature, which it has no use for.

    Attributes:
        activation: applied after the bias, as by the layer; see `drconv.DRConv2d`.
    """

    activation: str | None = None

    def forward(self, input: Tensor, guided_feature: Tensor | None = None) -> Tensor:
        """Convolve, `[B, C, H, W]` to `[B, O, U, V]`."""
        output = super().forward(input)
        return output if self.activation is None else ACTIVATIONS[self.activation](output)


class _NoGuide(nn.Module):
    """Stands where a block made the guided feature that its layers shared."""

    def forward(self, input: Tensor) -> None:
        return None


def plain_twin(model: nn.Module) -> nn.Module:
    """Return a copy of a model with `nn.Conv2d` in place of every dynamic layer, and no guides.

    The copy has the same architecture and freshly drawn convolutions: it is for comparing cost, not outputs.

    Args:
        model: any module.

    Returns:
        The twin, on the same device and in the same mode.
    """
    twin = deepcopy(model)
    replaced: dict[nn.Module, nn.Module] = {}
    for module in twin.modules():
        if isinstance(module, DynamicLayer):
            replaced[module] = _plain(module)
        elif isinstance(module, GuideConv2d):
            replaced[module] = _NoGuide().train(module.training)
    return replace_modules(twin, replaced)


def _plain(layer: DynamicLayer) -> UnguidedConv2d:
    like = next(layer.parameters())
    twin = plain_like(layer, like.device, like.dtype, UnguidedConv2d)
    if isinstance(layer, DRConv2d):
        twin.activation = layer.activation
    return twin


def plain_like(layer: DynamicLayer, device: torch.device, dtype: torch.dtype, kind: type[_Conv]) -> _Conv:
    """Return a fresh convolution of a dynamic layer's geometry, in its mode."""
    conv = kind(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        layer.has_bias,
        layer.padding_mode,  # type: ignore[arg-type]
        device=device,
        dtype=dtype,
    )
    return conv.train(layer.training)
