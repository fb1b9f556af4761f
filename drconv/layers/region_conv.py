"""The operator as a module: what every dynamic layer calls, and what a recorder hooks."""

from torch import Tensor, nn

from drconv.ops import region_conv2d

__all__ = ["RegionConv2d"]


class RegionConv2d(nn.Module):
    """The operator as a module without parameters: its inputs are what a recorder reads.

    Args:
        stride: as in `nn.Conv2d`, two integers.
        padding: zeros added on each side, two integers.
        dilation: as in `nn.Conv2d`, two integers.
        groups: channel groups.

    Attributes:
        soft_filter_gradient: as in `drconv.region_conv2d`; read at every call.
    """

    soft_filter_gradient: bool = False

    def __init__(
        self, stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int], groups: int
    ) -> None:
        super().__init__()
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups

    def forward(
        self,
        input: Tensor,
        region_filters: Tensor,
        guided_feature: Tensor,
        bias: Tensor | None = None,
        backend: str | None = None,
    ) -> Tensor:
        """Apply `drconv.ops.region_conv2d`, `[B, C, H, W]` to `[B, O, U, V]`."""
        return region_conv2d(
            input,
            region_filters,
            guided_feature,
            bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            backend=backend,
            soft_filter_gradient=self.soft_filter_gradient,
        )

    def extra_repr(self) -> str:
        """Show the geometry."""
        soft = ", soft_filter_gradient=True" if self.soft_filter_gradient else ""
        return f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, groups={self.groups}{soft}"
