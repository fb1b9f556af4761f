"""ResNet (CVPR 2016), plain, with DRConv in the 3x3 convolutions of its blocks, and with DyConv.

Parameter names are torchvision's, and so is the place of the stride in the deep block, its 3x3 convolution. ResNet-10
is ResNet-18 with one block per stage, as in the DyConv paper. The placement of DRConv is our reading.
"""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from drconv.checks import positive
from drconv.models.forms import register_forms
from drconv.models.network import Network, draw_he
from drconv.models.units import conv_unit

__all__ = ["ResNet"]


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions, added to the input.

    Args:
        in_channels: of the input.
        channels: of the 3x3 convolutions.
        stride: of the block.
    """

    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(in_channels, channels, stride)

    def forward(self, input: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(input)))
        return F.relu(self.bn2(self.conv2(x)) + self.downsample(input))


class _Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a widening 1x1 convolution, added to the input.

    Args:
        in_channels: of the input.
        channels: of the 3x3 convolution.
        stride: of the block.
    """

    expansion: ClassVar[int] = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, input: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(input)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + self.downsample(input))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Return what brings a block's input to the shape of its output; nothing where it has it."""
    if stride == 1 and in_channels == out_channels:
        return nn.Sequential()
    return conv_unit(in_channels, out_channels, 1, stride)


class ResNet(Network):
    """ResNet classifier, `[B, in_channels, H, W]` to logits `[B, num_classes]`.

    Args:
        block: of every stage.
        repeats: blocks of each of the four stages.
        num_classes: of the classifier.
        in_channels: of the image.
        features_only: no head; `forward` gives the last maps at strides 2, 4, 8, 16 and 32.
    """

    def __init__(
        self,
        block: type[_BasicBlock] | type[_Bottleneck],
        repeats: Sequence[int],
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        features_only: bool = False,
    ) -> None:
        widths = (64, 128, 256, 512)
        super().__init__((64, *(width * block.expansion for width in widths)), features_only)
        self.conv1 = nn.Conv2d(positive("in_channels", in_channels), 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)

        def layer(index: int) -> nn.Sequential:
            # The map before it: the stem's, or that of the layer before.
            channels, width = self.feature_channels[index], widths[index]
            first = block(channels, width, stride=1 if index == 0 else 2)
            others = (block(width * block.expansion, width, stride=1) for _ in range(repeats[index] - 1))
            return nn.Sequential(first, *others)

        self.layer1, self.layer2, self.layer3, self.layer4 = map(layer, range(4))
        if not features_only:
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(self.feature_channels[-1], positive("num_classes", num_classes))
        draw_he(self)

    def stages(self) -> list[list[nn.Module]]:
        """Return the stem, the pooling with the first layer, then the other layers."""
        return [
            [self.conv1, self.bn1, self.relu],
            [self.maxpool, self.layer1],
            [self.layer2],
            [self.layer3],
            [self.layer4],
        ]

    def forward_head(self, last_map: Tensor) -> Tensor:
        """Return the logits, `[B, num_classes]`."""
        logits: Tensor = self.fc(self.pool(last_map).flatten(1))
        return logits


for _depth, _block, _repeats in (
    (10, _BasicBlock, (1, 1, 1, 1)),
    (18, _BasicBlock, (2, 2, 2, 2)),
    (34, _BasicBlock, (3, 4, 6, 3)),
    (50, _Bottleneck, (3, 4, 6, 3)),
):
    register_forms(
        partial(ResNet, _block, _repeats),
        f"resnet{_depth}",
        f"ResNet-{_depth}",
        regions="layer*@3x3",
        regions_summary="the 3x3 convolutions of its blocks",
        blocks="layer*",
    )
