"""The networks of the study: one narrow ShuffleNetV2, static, with DyConv, and with DRConv in both its 1x1 layers."""

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn

from drconv import convert, count_flops
from drconv.layers import GuideConv2d
from drconv.models.shufflenet_v2 import ShuffleNetV2

IMAGE_SIZE = 64
BASE = (12, 32, 64, 128)
"""Channels of the stem, two stages (at strides 4 and 8) and the last convolution, at width 1."""
BASE_MADDS = 2_000_000
"""About the multiply-adds per image of the static network with these channels."""
REPEATS = (2, 2)


@dataclass(frozen=True)
class Network:
    """What is built.

    Attributes:
        kind: "static", "dyconv", or the filter generator of DRConv: "pooled", "basis", "learned".
        num_regions: M of DRConv.
        guide: "trained", "frozen" (as it was drawn) or "random" (new noise for scores in every pass).
        guide_norm: of DRConv's guides.
        soft_filter_gradient: of DRConv.
        madds: multiply-adds per image that the stages' width is chosen for; None is width 1.
    """

    kind: str
    num_regions: int = 4
    guide: str = "trained"
    guide_norm: str | None = None
    soft_filter_gradient: bool = False
    madds: int | None = None


class _Noise(nn.Module):
    """Scores that know nothing: new noise at every position in every pass."""

    def __init__(self, num_regions: int) -> None:
        super().__init__()
        self.num_regions = num_regions

    def forward(self, input: Tensor) -> Tensor:
        batch, _, height, width = input.shape
        return torch.randn(batch, self.num_regions, height, width, dtype=input.dtype, device=input.device)


def _channels(stem_width: float, width: float) -> tuple[int, ...]:
    """Return the channels at two widths, all even; the last convolution stays."""
    stem, *stages, last = BASE
    return 2 * round(stem * stem_width / 2), *(2 * round(channels * width / 2) for channels in stages), last


def _build(network: Network, channels: tuple[int, ...], num_classes: int) -> nn.Module:
    if network.kind in ("static", "dyconv"):
        model: nn.Module = ShuffleNetV2(channels, num_classes=num_classes, repeats=REPEATS, stem_pool=False)
        if network.kind == "dyconv":
            convert(model, "dynamic_conv2d", "stage*", keep_weights=False)
        return model
    model = ShuffleNetV2(
        channels,
        num_classes=num_classes,
        placement="both",
        num_regions=network.num_regions,
        filter_generator=network.kind,
        guide_norm=network.guide_norm,
        repeats=REPEATS,
        stem_pool=False,
    )
    for module in model.modules():
        if hasattr(module, "soft_filter_gradient"):
            module.soft_filter_gradient = network.soft_filter_gradient
    guides = [(parent, name) for parent in model.modules() for name, child in parent.named_children()
              if isinstance(child, GuideConv2d)]  # fmt: skip
    for parent, name in guides:
        if network.guide == "frozen":
            getattr(parent, name).requires_grad_(False)
        elif network.guide == "random":
            setattr(parent, name, _Noise(network.num_regions))
    return model


def count(network: Network, channels: tuple[int, ...], num_classes: int) -> int:
    """Return the multiply-adds per image of a network with these channels."""
    counted = Network(**{**network.__dict__, "guide": "trained"})
    return count_flops(_build(counted, channels, num_classes), (3, IMAGE_SIZE, IMAGE_SIZE)).madds


def channels_for(network: Network, num_classes: int) -> tuple[int, ...]:
    """Return the channels with which a network comes closest to its multiply-adds, and below 2 % off.

    The stem follows from the cost alone, so that it is the same for all that are compared. Both stages grow by one
    factor; then the first one alone is moved by up to two channels.

    Raises:
        ValueError: none comes within 2 %.
    """
    if network.madds is None:
        return _channels(1.0, 1.0)
    scale = sqrt(network.madds / BASE_MADDS)
    low, high = 0.7 * scale, 1.4 * scale
    for _ in range(7):
        middle = (low + high) / 2
        if count(network, _channels(scale, middle), num_classes) > network.madds:
            high = middle
        else:
            low = middle
    tried = {}
    for width in (low, high):
        stem, second, third, last = _channels(scale, width)
        for change in (-2, 0, 2):
            channels = (stem, second + change, third, last)
            tried[channels] = abs(count(network, channels, num_classes) / network.madds - 1)
    best = min(tried, key=tried.__getitem__)
    if tried[best] > 0.02:
        raise ValueError(f"no width of {network} is within 2 % of its multiply-adds; the best is {tried[best]:.1%} off")
    return best


def build(network: Network, num_classes: int) -> tuple[nn.Module, tuple[int, ...], int]:
    """Return the network with fresh weights, its channels, and its multiply-adds per image."""
    channels = channels_for(network, num_classes)
    return _build(network, channels, num_classes), channels, count(network, channels, num_classes)
