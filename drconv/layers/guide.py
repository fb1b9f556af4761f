"""The convolution that scores regions."""

from typing import Any

from torch import Tensor, nn

from drconv.checks import Size2d, pick

__all__ = ["GUIDE_NORMS", "GuideConv2d"]

GUIDE_NORMS = ("batch",)
"""What `guide_norm` can be besides None."""


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
        guide_norm: `"batch"` puts an affine BatchNorm behind the convolution, which keeps regions alive in training
            (not in the paper). `drconv.fold_guide_norm` and `drconv.optimize_for_inference` fold it into the weights
            and the bias. None is the paper's guide.

    Attributes:
        norm: the BatchNorm, or None.

    Raises:
        ArgumentError: there is no such norm.
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
        *,
        guide_norm: str | None = None,
    ) -> None:
        if guide_norm is not None:
            pick("guide_norm", guide_norm, GUIDE_NORMS)
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
        made = {"device": device, "dtype": dtype}
        self.norm = None if guide_norm is None else nn.BatchNorm2d(self.out_channels, **made)

    def reset_parameters(self) -> None:
        """Draw the convolution anew, and let the norm forget what it has seen."""
        super().reset_parameters()
        # `nn.Conv2d` calls this before there is a norm.
        norm = self._modules.get("norm")
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        """Score the regions of every output position, `[B, C, H, W]` to `[B, M, U, V]`."""
        logits = super().forward(input)
        # Not `self.norm`: a guide that was pickled before there were norms does not have it.
        norm = self._modules.get("norm")
        return logits if norm is None else norm(logits)

    @property
    def num_regions(self) -> int:
        """M, the number of output channels."""
        return self.out_channels
