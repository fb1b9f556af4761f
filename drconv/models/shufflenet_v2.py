"""ShuffleNetV2 (ECCV 2018), plain, with DRConv in the right branch of its blocks, and with DyConv.

The block is Megvii's: the right branch makes oup - inp channels and the left keeps inp, which is what the published
multiply-adds (41/146/299/591M) are of. Parameter names follow torchvision's, whose x0.5 weights fit.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from drconv.checks import flag, pick, positive
from drconv.errors import ArgumentError
from drconv.layers import DRConv2d, GuideConv2d
from drconv.models.forms import register_dyconv
from drconv.models.network import Network
from drconv.models.registry import register_model
from drconv.models.units import conv_unit

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


def _depthwise(channels: int, kernel_size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel_size, stride, kernel_size // 2, groups=channels, bias=False)


Pointwise = Callable[[int, int], nn.Module]


def _plain_pointwise(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Conv2d(in_channels, out_channels, 1, bias=False)


class _Block(nn.Module):
    """Two branches, joined. With stride 1 the left one is half of the input's channels, untouched.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        stride: 1 or 2.
        first: makes the first 1x1 convolution of the right branch.
        last: makes its last one.
        guide: makes the guide that both share, from the right branch's input; None shares nothing.
        shuffle_first: whether the channels are parted into even and odd ones before the branches (with stride 1), as in
            the released DRConv code, and not into halves with the output's channels interleaved.
        kernel_size: of the depthwise convolutions, odd.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        first: Pointwise,
        last: Pointwise,
        guide: Callable[[int], GuideConv2d] | None,
        shuffle_first: bool,
        kernel_size: int,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.shuffle_first = shuffle_first
        left = in_channels if stride == 2 else out_channels // 2
        middle = out_channels // 2
        self.branch1 = nn.Sequential()
        if stride == 2:
            self.branch1 = nn.Sequential(
                _depthwise(left, kernel_size, 2),
                nn.BatchNorm2d(left),
                _plain_pointwise(left, left),
                nn.BatchNorm2d(left),
                nn.ReLU(inplace=True),
            )
        self.branch2 = nn.Sequential(
            first(left, middle),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            _depthwise(middle, kernel_size, stride),
            nn.BatchNorm2d(middle),
            last(middle, out_channels - left),
            nn.BatchNorm2d(out_channels - left),
            nn.ReLU(inplace=True),
        )
        self.guide = None if guide is None else guide(left)

    def forward(self, input: Tensor) -> Tensor:
        left, right = self._parts(input)
        joined = torch.cat((self.branch1(left), self._right(right)), 1)
        return joined if self.shuffle_first else _channel_shuffle(joined)

    def _parts(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """Return what enters the left and the right branch."""
        if self.stride == 2:
            return input, input
        left, right = (input[:, 0::2], input[:, 1::2]) if self.shuffle_first else input.chunk(2, 1)
        return left, right

    def _right(self, x: Tensor) -> Tensor:
        guided_feature = None if self.guide is None else self.guide(x)
        for layer in self.branch2:
            x = layer(x, guided_feature) if isinstance(layer, DRConv2d) else layer(x)
        return x


class ShuffleNetV2(Network):
    """ShuffleNetV2 classifier, `[B, in_channels, H, W]` to logits `[B, num_classes]`.

    Args:
        channels: of the stem, the stages (three, in the paper) and the last convolution.
        num_classes: of the classifier.
        in_channels: of the image.
        placement: which 1x1 convolutions of the right branches are `DRConv2d`: "none", "first", "last" or "both".
        num_regions: M of every `DRConv2d`.
        filter_generator: of every `DRConv2d`.
        share_guide: whether one guide per block, on the right branch's input, serves its `DRConv2d` layers.
        guide_bias: whether guides have a bias.
        guide_norm: `"batch"` for a BatchNorm on the scores of guides; see `drconv.GuideConv2d`.
        ends_bias: whether the stem and the last convolution have a bias, as in the released DRConv code.
        shuffle_first: whether blocks of stride 1 part their channels into even and odd ones at their start, as in the
            released DRConv code, and none shuffles at its end, as in torchvision.
        features_only: no head; `forward` gives the last maps at strides 2, 4, 8, 16 and 32, those before the last 1x1
            convolution.
        repeats: blocks of each stage.
        stem_pool: whether a max pool halves the stem's map. Without it all maps behind are twice as large.
        kernel_size: of the depthwise convolutions, odd; 3 in the paper.
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
        guide_norm: str | None = None,
        ends_bias: bool = False,
        shuffle_first: bool = False,
        features_only: bool = False,
        repeats: Sequence[int] = (4, 8, 4),
        stem_pool: bool = True,
        kernel_size: int = 3,
    ) -> None:
        stem, *widths, last_channels = channels
        super().__init__((stem, *(stem,) * stem_pool, *widths), features_only)
        flags = {"share_guide": share_guide, "ends_bias": ends_bias, "shuffle_first": shuffle_first}
        flags["stem_pool"] = stem_pool
        for name, value in flags.items():
            flag(name, value)
        pick("placement", placement, ("none", "first", "last", "both"))
        positive("num_classes", num_classes)
        positive("in_channels", in_channels)
        if positive("kernel_size", kernel_size) % 2 == 0:
            raise ArgumentError(f"kernel_size must be odd, so that the map keeps its size, got {kernel_size}")
        if len(repeats) != len(widths) or not repeats:
            raise ArgumentError(f"repeats must have one number per stage, got repeats={repeats}, channels={channels}")
        for number in repeats:
            positive("repeats", number)

        def region_pointwise(in_channels: int, out_channels: int) -> nn.Module:
            return DRConv2d(
                in_channels,
                out_channels,
                1,
                bias=False,
                num_regions=num_regions,
                filter_generator=filter_generator,
                guide_bias=guide_bias,
                guide_norm=guide_norm,
                own_guide=not share_guide,
            )

        def shared_guide(in_channels: int) -> GuideConv2d:
            return GuideConv2d(in_channels, num_regions, bias=guide_bias, guide_norm=guide_norm)

        first = region_pointwise if placement in ("first", "both") else _plain_pointwise
        last = region_pointwise if placement in ("last", "both") else _plain_pointwise
        guide = shared_guide if share_guide and placement != "none" else None

        def stage(in_channels: int, out_channels: int, repeats: int) -> nn.Sequential:
            block = partial(
                _Block, first=first, last=last, guide=guide, shuffle_first=shuffle_first, kernel_size=kernel_size
            )
            others = (block(out_channels, out_channels, 1) for _ in range(repeats - 1))
            return nn.Sequential(block(in_channels, out_channels, 2), *others)

        unit = partial(conv_unit, bias=ends_bias, activation=partial(nn.ReLU, inplace=True))
        self.conv1 = unit(in_channels, stem, 3, 2)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem_pool else None
        before = stem
        # Numbered from 2, as in the paper, where the stem is the first.
        self._stage_names = tuple(f"stage{number}" for number in range(2, 2 + len(widths)))
        for name, width, repeat in zip(self._stage_names, widths, repeats, strict=True):
            self.add_module(name, stage(before, width, repeat))
            before = width
        if not features_only:
            self.conv5 = unit(before, last_channels)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(last_channels, num_classes)

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """Return the stem, the pooling if there is one, and the stages of blocks."""
        pool = [] if self.maxpool is None else [[self.maxpool]]
        return [[self.conv1], *pool, *([self.get_submodule(name)] for name in self._stage_names)]

    def forward_head(self, last_map: Tensor) -> Tensor:
        """Return the logits, `[B, num_classes]`."""
        logits: Tensor = self.fc(self.pool(self.conv5(last_map)).flatten(1))
        return logits


def _plain(
    channels: Sequence[int], *, num_classes: int = 1000, in_channels: int = 3, features_only: bool = False
) -> ShuffleNetV2:
    """Build the network that DyConv is put into."""
    return ShuffleNetV2(channels, num_classes=num_classes, in_channels=in_channels, features_only=features_only)


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
            "shuffle_first": True,
        },
    ),
}
for _width, _channels in _CHANNELS.items():
    _title = f"ShuffleNetV2 {_width.replace('_', '.')}"
    for _name, (_summary, _keywords) in _FORMS.items():
        register_model(
            partial(ShuffleNetV2, _channels, **_keywords),
            name=_name.format(_width),
            summary=f"{_title}, {_summary}",
        )
    register_dyconv(
        partial(_plain, _channels),
        f"shufflenet_v2_{_width}",
        f"{_title}, DyConv in all convolutions but the first",
        blocks="stage*",
    )

register_model(
    partial(
        ShuffleNetV2,
        (24, 72, 128, 256),
        placement="last",
        num_regions=4,
        filter_generator="basis",
        repeats=(6, 4),
        stem_pool=False,
        kernel_size=7,
    ),
    name="drconv_shufflenet_v2_demo",
    summary="ShuffleNetV2, narrow, two stages at strides 4 and 8, DRConv on the last 1x1 of each right branch",
)
