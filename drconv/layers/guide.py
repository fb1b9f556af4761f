"""The convolution that scores regions."""

from typing import Any

from torch import nn

from drconv.checks import Size2d

__all__ = ["GuideConv2d"]


class GuideConv2d(nn.Conv2d):
    """Convolution from an input to its guided feature, `[B, C, H, W]` to `[B, M, U, V]`.

    A standard convolution with one output channel per region (DRConv paper, section on the guided mask). A `DRConv2d`
    owns one by default; a block may own one and hand its output to several layers, as the released code does.

    Args:
        in_channels: C.
        num_regions: M.
        kernel_size: side of the kernel; the paper takes that of the convolution it guides.
        stride: as in `nn.Conv2d`.
        padding: as in `nn.Conv2d`.
        dilation: as in `nn.Conv2d`.
        bias: whether each region has a learned offset.
        padding_mode: as in `nn.Conv2d`.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self,
        in_channels: int,
        num_regions: int,
        kernel_size: Size2d = 1,
        stride: Size2d = 1,
        padding: Size2d | str = 0,
        dilation: Size2d = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            num_regions,
            kernel_size,  # type: ignore[arg-type]
            stride,  # type: ignore[arg-type]
            padding,  # type: ignore[arg-type]
            dilation,  # type: ignore[arg-type]
            1,
            bias,
            padding_mode,  # type: ignore[arg-type]
            device,
            dtype,
        )

    @property
    def num_regions(self) -> int:
        """M, the number of output channels."""
        return self.out_channels
