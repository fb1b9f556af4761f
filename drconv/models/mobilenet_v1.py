"""MobileNetV1 (arXiv 1704.04861), plain, with DRConv in every pointwise convolution, and with DyConv.

Parameter names are those of timm's `mobilenetv1_100`, whose ReLU6 is kept. The placement of DRConv is our reading.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from drconv.checks import positive
from drconv.models.forms import register_forms
from drconv.models.network import Network, draw_he
from drconv.models.units import round_channels

__all__ = ["MobileNetV1"]

_STAGES = ((64,), (128, 128), (256, 256), (512,) * 6, (1024, 1024))


class _Block(nn.Module):
    """A 3x3 depthwise convolution and a 1x1 one, each with normalisation and ReLU6."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv_pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, input: Tensor) -> Tensor:
        x = F.relu6(self.bn1(self.conv_dw(input)))
        return F.relu6(self.bn2(self.conv_pw(x)))


class MobileNetV1(Network):
    """MobileNetV1 classifier, `[B, in_channels, H, W]` to logits `[B, num_classes]`.

    Args:
        width: multiplier of all channels.
        num_classes: of the classifier.
        in_channels: of the image.
        features_only: no head; `forward` gives the last maps at strides 2, 4, 8, 16 and 32.
    """

    def __init__(
        self, width: float, *, num_classes: int = 1000, in_channels: int = 3, features_only: bool = False
    ) -> None:
        stages = [[round_channels(width * channels) for channels in stage] for stage in _STAGES]
        super().__init__([stage[-1] for stage in stages], features_only)
        channels = round_channels(width * 32)
        self.conv_stem = nn.Conv2d(positive("in_channels", in_channels), channels, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = nn.ReLU6(inplace=True)
        self.blocks = nn.Sequential()
        for stage in stages:
            # The first stage keeps the stem's size, each other one halves it.
            stride = 2 if len(self.blocks) else 1
            blocks = nn.Sequential()
            for out_channels in stage:
                blocks.append(_Block(channels, out_channels, 1 if len(blocks) else stride))
                channels = out_channels
            self.blocks.append(blocks)
        if not features_only:
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.classifier = nn.Linear(channels, positive("num_classes", num_classes))
        draw_he(self, linear_std=0.01)

    def stages(self) -> list[list[nn.Module]]:
        """Return the stem with the first stage, then the other stages."""
        first, *others = self.blocks
        return [[self.conv_stem, self.bn1, self.act1, first], *([stage] for stage in others)]

    def forward_head(self, last_map: Tensor) -> Tensor:
        """Return the logits, `[B, num_classes]`."""
        logits: Tensor = self.classifier(self.pool(last_map).flatten(1))
        return logits


for _width in (0.25, 0.5, 0.75, 1.0):
    register_forms(
        partial(MobileNetV1, _width),
        f"mobilenet_v1_x{_width}".replace(".", "_"),
        f"MobileNetV1 x{_width}",
        regions="blocks.*.conv_pw",
        regions_summary="every pointwise convolution",
        blocks="blocks",
    )
