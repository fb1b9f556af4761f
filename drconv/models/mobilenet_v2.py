"""MobileNetV2 (CVPR 2018), plain, with DRConv in the 1x1 convolutions of its blocks, and with DyConv.

Parameter names are torchvision's. DRConv replaces the expanding and the projecting 1x1 convolution of each block; stem,
depthwise and last convolutions stay static. That placement is our reading.
"""

from functools import partial

from torch import Tensor, nn

from drconv.checks import positive, probability
from drconv.models.forms import register_forms
from drconv.models.mobile_network import MobileNetwork, Step
from drconv.models.units import conv_unit, round_channels

__all__ = ["MobileNetV2"]

# Table 2 of the paper: expansion, channels, blocks, stride of the first block.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_unit = partial(conv_unit, activation=partial(nn.ReLU6, inplace=True))


class _Block(nn.Module):
    """Inverted residual: expand, convolve each channel, project; added to the input where the shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = in_channels * expansion
        self.conv = nn.Sequential()
        if expansion != 1:
            self.conv.append(_unit(in_channels, middle))
        self.conv.append(_unit(middle, middle, 3, stride, groups=middle))
        # torchvision's names count the projection and its normalisation one by one.
        self.conv.extend(conv_unit(middle, out_channels))
        self.adds_input = stride == 1 and in_channels == out_channels

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.conv(input)
        return input + output if self.adds_input else output


class MobileNetV2(MobileNetwork):
    """MobileNetV2 classifier, `[B, in_channels, H, W]` to logits `[B, num_classes]`.

    Args:
        width: multiplier of all channels; the last convolution never has fewer than 1280.
        num_classes: of the classifier.
        in_channels: of the image.
        dropout: before the classifier.
        features_only: no head; `forward` gives the last maps at strides 2, 4, 8, 16 and 32, those before the last 1x1
            convolution.
    """

    def __init__(
        self,
        width: float,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.2,
        features_only: bool = False,
    ) -> None:
        channels = round_channels(width * 32)
        trunk = [Step(_unit(positive("in_channels", in_channels), channels, 3, 2), 2, channels)]
        for expansion, unscaled, repeats, first_stride in _STAGES:
            out_channels = round_channels(width * unscaled)
            for stride in (first_stride, *(1,) * (repeats - 1)):
                trunk.append(Step(_Block(channels, out_channels, stride, expansion), stride, out_channels))
                channels = out_channels
        last = round_channels(max(1.0, width) * 1280)
        classifier = nn.Sequential(
            nn.Dropout(probability("dropout", dropout)), nn.Linear(last, positive("num_classes", num_classes))
        )
        super().__init__(trunk, _unit(channels, last), classifier, features_only=features_only)


for _width in (0.35, 0.5, 0.75, 1.0, 1.4):
    register_forms(
        partial(MobileNetV2, _width),
        f"mobilenet_v2_x{_width}".replace(".", "_"),
        f"MobileNetV2 x{_width}",
        regions="features.*.conv@1x1,dense",
        regions_summary="the 1x1 convolutions of its blocks",
        blocks="features.*.conv",
    )
