"""ShuffleNetV2 (ECCV 2018), plain and with DRConv in the right branch of its blocks.

The block is Megvii's: the right branch makes oup - inp channels and the left keeps inp, which is what the published
multiply-adds (41/146/299/591M) are of. Parameter names follow torchvision's, whose x0.5 weights fit.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from drconv.checks import pick, positive
from drconv.layers import DRConv2d, GuideConv2d
from drconv.models.registry import register_model

__all__ = ["ShuffleNetV2"]

Placement = Literal["none", "first", "last", "both"]
_CHANNELS = {
    "x0_5": (24, 48, 96, 192, 1024),
    "x1_0": (24, 116, 232, 464, 1024),
    "x1_5": (24, 176, 352, 704, 1024),
    "x2_0": (24, 244, 488, 976, 2048),
}


def _channel_shuffle(input: Tensor) -> Tensor:
    """Interleave the two halves of the channels."""
    halves: Tensor = input.unflatten(1, (2, -1))
    return halves.transpose(1, 2).flatten(1, 2)


def _depthwise(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)


Pointwise = Callable[[int, int], nn.Module]


def _plain_pointwise(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Conv2d(in_channels, out_channels, 1, bias=False)


class _Block(nn.Module):
    """Two branches, joined and shuffled. With stride 1 the left branch is half of the input, untouched.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        stride: 1 or 2.
        first: makes the first 1x1 convolution of the right branch.
        last: makes its last one.
        guide: makes the guide that both share, from the right branch's input; None shares nothing.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        first: Pointwise,
        last: Pointwise,
        guide: Callable[[int], GuideConv2d] | None,
    ) -> None:
        super().__init__()
        self.stride = stride
        left = in_channels if stride == 2 else out_channels // 2
        middle = out_channels // 2
        self.branch1 = nn.Sequential()
        if stride == 2:
            self.branch1 = nn.Sequential(
                _depthwise(left, 2),
                nn.BatchNorm2d(left),
                _plain_pointwise(left, left),
                nn.BatchNorm2d(left),
                nn.ReLU(inplace=True),
            )
        self.branch2 = nn.Sequential(
            first(left, middle),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            _depthwise(middle, stride),
            nn.BatchNorm2d(middle),
            last(middle, out_channels - left),
            nn.BatchNorm2d(out_channels - left),
            nn.ReLU(inplace=True),
        )
        self.guide = None if guide is None else guide(left)

    def forward(self, input: Tensor) -> Tensor:
        left, right = input.chunk(2, 1) if self.stride == 1 else (input, input)
        return _channel_shuffle(torch.cat((self.branch1(left), self._right(right)), 1))

    def _right(self, x: Tensor) -> Tensor:
        guided_feature = None if self.guide is None else self.guide(x)
        for layer in self.branch2:
            x = layer(x, guided_feature) if isinstance(layer, DRConv2d) else layer(x)
        return x


class ShuffleNetV2(nn.Module):
    """ShuffleNetV2 classifier, `[B, in_channels, H, W]` to logits `[B, num_classes]`.

    Args:
        channels: of the stem, the three stages and the last convolution.
        num_classes: of the classifier.
        in_channels: of the image.
        placement: which 1x1 convolutions of the right branches are `DRConv2d`: "none", "first", "last" or "both".
        num_regions: M of every `DRConv2d`.
        filter_generator: of every `DRConv2d`.
        share_guide: whether one guide per block, on the right branch's input, serves its `DRConv2d` layers.
        guide_bias: whether guides have a bias.
        ends_bias: whether the stem and the last convolution have a bias, as in the released DRConv code.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        placement: Placement = "none",
        num_regions: int = 8,
        filter_generator: str = "pooled",
        share_guide: bool = False,
        guide_bias: bool = True,
        ends_bias: bool = False,
    ) -> None:
        super().__init__()
        pick("placement", placement, ("none", "first", "last", "both"))
        positive("num_classes", num_classes)
        positive("in_channels", in_channels)

        def region_pointwise(in_channels: int, out_channels: int) -> nn.Module:
            return DRConv2d(
                in_channels,
                out_channels,
                1,
                bias=False,
                num_regions=num_regions,
                filter_generator=filter_generator,
                guide_bias=guide_bias,
                own_guide=not share_guide,
            )

        def shared_guide(in_channels: int) -> GuideConv2d:
            return GuideConv2d(in_channels, num_regions, bias=guide_bias)

        first = region_pointwise if placement in ("first", "both") else _plain_pointwise
        last = region_pointwise if placement in ("last", "both") else _plain_pointwise
        guide = shared_guide if share_guide and placement != "none" else None

        def stage(in_channels: int, out_channels: int, repeats: int) -> nn.Sequential:
            blocks = [_Block(in_channels, out_channels, 2, first, last, guide)]
            blocks += [_Block(out_channels, out_channels, 1, first, last, guide) for _ in range(repeats - 1)]
            return nn.Sequential(*blocks)

        stem, second, third, fourth, final = channels
        self.conv1 = _conv_bn_relu(in_channels, stem, 3, 2, ends_bias)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.stage2 = stage(stem, second, 4)
        self.stage3 = stage(second, third, 8)
        self.stage4 = stage(third, fourth, 4)
        self.conv5 = _conv_bn_relu(fourth, final, 1, 1, ends_bias)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(final, num_classes)

    def forward(self, input: Tensor) -> Tensor:
        """Classify a batch of images."""
        x = self.maxpool(self.conv1(input))
        x = self.stage4(self.stage3(self.stage2(x)))
        x = self.pool(self.conv5(x)).flatten(1)
        logits: Tensor = self.fc(x)
        return logits


def _conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int, stride: int, bias: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=bias),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


_FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "shufflenet_v2_{}": ("plain", {}),
    "drconv_shufflenet_v2_{}": (
        "DRConv on the first 1x1 of each right branch, pooled generator",
        {"placement": "first"},
    ),
    "drconv_shufflenet_v2_{}_released": (
        "DRConv as in the released code: both 1x1, basis generator, one guide per block",
        {
            "placement": "both",
            "filter_generator": "basis",
            "share_guide": True,
            "guide_bias": False,
            "ends_bias": True,
        },
    ),
}
for _width, _channels in _CHANNELS.items():
    for _name, (_summary, _keywords) in _FORMS.items():
        register_model(
            partial(ShuffleNetV2, _channels, **_keywords),
            name=_name.format(_width),
            summary=f"ShuffleNetV2 {_width.replace('_', '.')}, {_summary}",
        )
