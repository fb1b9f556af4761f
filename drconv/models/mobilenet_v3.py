"""MobileNetV3 (ICCV 2019), plain, with DRConv in the 1x1 convolutions of its blocks, and with DyConv.

Parameter names are torchvision's. DRConv replaces the expanding and the projecting 1x1 convolution of each block; stem,
depthwise, squeeze-excite and last convolutions stay static. That placement is our reading.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from drconv.checks import positive, probability
from drconv.models.forms import register_forms
from drconv.models.mobile_network import MobileNetwork, Step
from drconv.models.units import SqueezeExcitation, conv_unit, round_channels

__all__ = ["MobileNetV3"]


class _Row(NamedTuple):
    """A row of the paper's tables."""

    kernel_size: int
    expanded: int
    out_channels: int
    squeezes: bool
    activation: str
    stride: int


# Tables 1 and 2 of the paper.
_LARGE = (
    _Row(3, 16, 16, False, "relu", 1),
    _Row(3, 64, 24, False, "relu", 2),
    _Row(3, 72, 24, False, "relu", 1),
    _Row(5, 72, 40, True, "relu", 2),
    _Row(5, 120, 40, True, "relu", 1),
    _Row(5, 120, 40, True, "relu", 1),
    _Row(3, 240, 80, False, "hardswish", 2),
    _Row(3, 200, 80, False, "hardswish", 1),
    _Row(3, 184, 80, False, "hardswish", 1),
    _Row(3, 184, 80, False, "hardswish", 1),
    _Row(3, 480, 112, True, "hardswish", 1),
    _Row(3, 672, 112, True, "hardswish", 1),
    _Row(5, 672, 160, True, "hardswish", 2),
    _Row(5, 960, 160, True, "hardswish", 1),
    _Row(5, 960, 160, True, "hardswish", 1),
)
_SMALL = (
    _Row(3, 16, 16, True, "relu", 2),
    _Row(3, 72, 24, False, "relu", 2),
    _Row(3, 88, 24, False, "relu", 1),
    _Row(5, 96, 40, True, "hardswish", 2),
    _Row(5, 240, 40, True, "hardswish", 1),
    _Row(5, 240, 40, True, "hardswish", 1),
    _Row(5, 120, 48, True, "hardswish", 1),
    _Row(5, 144, 48, True, "hardswish", 1),
    _Row(5, 288, 96, True, "hardswish", 2),
    _Row(5, 576, 96, True, "hardswish", 1),
    _Row(5, 576, 96, True, "hardswish", 1),
)
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "hardswish": partial(nn.Hardswish, inplace=True),
}
_unit = partial(conv_unit, norm=partial(nn.BatchNorm2d, eps=0.001, momentum=0.01))


class _Block(nn.Module):
    """Inverted residual: expand, convolve each channel, squeeze-excite, project; added to the input where it fits."""

    def __init__(self, in_channels: int, row: _Row) -> None:
        super().__init__()
        unit = partial(_unit, activation=_ACTIVATIONS[row.activation])
        self.block = nn.Sequential()
        if row.expanded != in_channels:
            self.block.append(unit(in_channels, row.expanded))
        self.block.append(unit(row.expanded, row.expanded, row.kernel_size, row.stride, groups=row.expanded))
        if row.squeezes:
            self.block.append(SqueezeExcitation(row.expanded, round_channels(row.expanded / 4)))
        self.block.append(_unit(row.expanded, row.out_channels))
        self.adds_input = row.stride == 1 and in_channels == row.out_channels

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.block(input)
        return input + output if self.adds_input else output


class MobileNetV3(MobileNetwork):
    """MobileNetV3 classifier, `[B, in_channels, H, W]` to logits `[B, num_classes]`.

    Args:
        rows: of the paper's table, one per block.
        num_classes: of the classifier.
        in_channels: of the image.
        head_channels: of the classifier's hidden layer; 1280 in Large, 1024 in Small (1280 in an older version of it).
        dropout: before the classifier's last layer.
        features_only: no head; `forward` gives the last maps at strides 2, 4, 8, 16 and 32, those before the last 1x1
            convolution.
    """

    def __init__(
        self,
        rows: Sequence[_Row],
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        head_channels: int = 1280,
        dropout: float = 0.2,
        features_only: bool = False,
    ) -> None:
        channels = 16
        hardswish = _ACTIVATIONS["hardswish"]
        stem = _unit(positive("in_channels", in_channels), channels, 3, 2, activation=hardswish)
        trunk = [Step(stem, 2, channels)]
        for row in rows:
            trunk.append(Step(_Block(channels, row), row.stride, row.out_channels))
            channels = row.out_channels
        classifier = nn.Sequential(
            nn.Linear(6 * channels, positive("head_channels", head_channels)),
            hardswish(),
            nn.Dropout(probability("dropout", dropout)),
            nn.Linear(head_channels, positive("num_classes", num_classes)),
        )
        last_conv = _unit(channels, 6 * channels, activation=hardswish)
        super().__init__(trunk, last_conv, classifier, features_only=features_only)


for _name, _rows, _head_channels in (("small", _SMALL, 1024), ("large", _LARGE, 1280)):
    register_forms(
        partial(MobileNetV3, _rows, head_channels=_head_channels),
        f"mobilenet_v3_{_name}",
        f"MobileNetV3-{_name.capitalize()}",
        regions=("features.*.block@1x1,dense", "!*.fc[12]"),
        regions_summary="the 1x1 convolutions of its blocks",
        blocks=("features.*.block", "!*.fc[12]"),
    )
