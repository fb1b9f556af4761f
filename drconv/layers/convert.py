"""Replace layers of any model."""

from copy import deepcopy

from torch import Tensor, nn

from drconv.layers.base import DynamicLayer
from drconv.layers.guide import GuideConv2d

__all__ = ["plain_twin"]


class _PlainConv2d(nn.Conv2d):
    """`nn.Conv2d` in the place of a layer that may be handed a shared guided feature, which it has no use for."""

    def forward(self, input: Tensor, guided_feature: Tensor | None = None) -> Tensor:
        return super().forward(input)


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
    for module in list(twin.modules()):
        # Not `named_children`, which leaves out the second place of a module that is used twice.
        for name, child in module._modules.items():
            if child in replaced and module not in replaced:
                setattr(module, name, replaced[child])
    return replaced.get(twin, twin)


def _plain(layer: DynamicLayer) -> nn.Conv2d:
    like = next(layer.parameters())
    conv = _PlainConv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        layer.has_bias,
        layer.padding_mode,  # type: ignore[arg-type]
        device=like.device,
        dtype=like.dtype,
    )
    return conv.train(layer.training)
