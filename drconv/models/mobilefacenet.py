"""MobileFaceNet (CCBR 2018), plain, with DRConv in the 1x1 convolutions of its blocks, and with DyConv.

Parameter names are those of TreB1eN/InsightFace_Pytorch. DRConv replaces the expanding and the projecting 1x1
convolution of each block; stem, depthwise and last convolutions stay static. That placement is our reading.
"""

from collections import OrderedDict

from torch import Tensor, nn

from drconv.checks import positive
from drconv.models.forms import register_forms
from drconv.models.network import Network, draw_he

__all__ = ["MobileFaceNet"]


def _unit(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    stride: int = 1,
    *,
    padding: int = 0,
    groups: int = 1,
    activation: bool = True,
) -> nn.Sequential:
    """Return convolution, normalisation and, unless it is left out, PReLU."""
    unit = OrderedDict[str, nn.Module](
        conv=nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False),
        bn=nn.BatchNorm2d(out_channels),
    )
    if activation:
        unit["prelu"] = nn.PReLU(out_channels)
    return nn.Sequential(unit)


class _Block(nn.Module):
    """Inverted residual: expand, convolve each channel, project; added to the input if the stride is 1."""

    def __init__(self, in_channels: int, middle: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = _unit(in_channels, middle)
        self.conv_dw = _unit(middle, middle, 3, stride, padding=1, groups=middle)
        self.project = _unit(middle, out_channels, activation=False)
        self.adds_input = stride == 1

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.project(self.conv_dw(self.conv(input)))
        return input + output if self.adds_input else output


def _blocks(channels: int, middle: int, repeats: int) -> nn.Sequential:
    """Return blocks that keep the shape."""
    blocks = nn.Sequential(*(_Block(channels, middle, channels, 1) for _ in range(repeats)))
    return nn.Sequential(OrderedDict(model=blocks))


class MobileFaceNet(Network):
    """MobileFaceNet, faces `[B, in_channels, 112, 112]` to embeddings `[B, embedding_size]`.

    The embedding is what the last normalisation gives; its length is not 1, since the losses for it (ArcFace and its
    kin) divide by it themselves. The global depthwise convolution is 7x7, the whole last map of a 112x112 image; of a
    larger image, the mean over the positions that it leaves is taken.

    Args:
        embedding_size: numbers per face.
        in_channels: of the image.
        features_only: no head; `forward` gives the last maps at strides 2, 4, 8 and 16, those before the last 1x1
            convolution.
    """

    def __init__(self, *, embedding_size: int = 128, in_channels: int = 3, features_only: bool = False) -> None:
        super().__init__((64, 64, 128, 128), features_only)
        self.conv1 = _unit(positive("in_channels", in_channels), 64, 3, 2, padding=1)
        self.conv2_dw = _unit(64, 64, 3, padding=1, groups=64)
        self.conv_23 = _Block(64, 128, 64, 2)
        self.conv_3 = _blocks(64, 128, 4)
        self.conv_34 = _Block(64, 256, 128, 2)
        self.conv_4 = _blocks(128, 256, 6)
        self.conv_45 = _Block(128, 512, 128, 2)
        self.conv_5 = _blocks(128, 256, 2)
        if not features_only:
            self.conv_6_sep = _unit(128, 512)
            self.conv_6_dw = _unit(512, 512, 7, groups=512, activation=False)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.linear = nn.Linear(512, positive("embedding_size", embedding_size), bias=False)
            self.bn = nn.BatchNorm1d(embedding_size)
        draw_he(self)

    def stages(self) -> list[list[nn.Module]]:
        """Return the stem, then each block of stride 2 with those after it."""
        return [
            [self.conv1, self.conv2_dw],
            [self.conv_23, self.conv_3],
            [self.conv_34, self.conv_4],
            [self.conv_45, self.conv_5],
        ]

    def forward_head(self, last_map: Tensor) -> Tensor:
        """Return the embeddings, `[B, embedding_size]`."""
        x = self.pool(self.conv_6_dw(self.conv_6_sep(last_map))).flatten(1)
        embeddings: Tensor = self.bn(self.linear(x))
        return embeddings


register_forms(
    MobileFaceNet,
    "mobilefacenet",
    "MobileFaceNet",
    regions="conv_[2345]*@1x1,dense",
    regions_summary="the 1x1 convolutions of its blocks",
    blocks="conv_[2345]*",
    input_size=(3, 112, 112),
)
