"""What every layer with regions has in common, so that it can be recorded, counted and switched without knowing it."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from drconv.kernels import BACKENDS
from drconv.ops import region_conv2d

__all__ = ["RegionConv2d", "RegionLayer", "set_backend"]


class RegionConv2d(nn.Module):
    """The operator as a module without parameters: its inputs are what a recorder reads.

    Args:
        stride: as in `nn.Conv2d`, two integers.
        padding: zeros added on each side, two integers.
        dilation: as in `nn.Conv2d`, two integers.
        groups: channel groups.
    """

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
        )

    def extra_repr(self) -> str:
        """Show the geometry."""
        return f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, groups={self.groups}"


class RegionLayer(nn.Module):
    """Base of the layers that give each region a filter.

    Attributes:
        num_regions: M.
        filter_generator: module from the input to region filters.
        region_conv: the operator; called once per forward pass with what was used.
        backend: name from `drconv.kernels.BACKENDS`, or None for the first able one; read at every call.
        STAGES: submodule path -> stage of the layer, for reports.
    """

    STAGES: ClassVar[Mapping[str, str]] = {
        "filter_generator.pool": "pool",
        "filter_generator": "generator",
        "guide": "guide",
        "region_conv": "convolution",
    }

    num_regions: int
    filter_generator: nn.Module
    region_conv: RegionConv2d
    backend: str | None

    def stage_of(self, path: str) -> str:
        """Return the stage of a submodule, given its path within the layer.

        The longest entry of `STAGES` that leads to the path counts; what the layer does itself (its bias, the resizing
        of a shared guide) belongs to the convolution.
        """
        while path:
            if path in self.STAGES:
                return self.STAGES[path]
            path = path.rpartition(".")[0]
        return "convolution"


def set_backend(model: nn.Module, backend: str | None) -> nn.Module:
    """Set the backend of every layer with regions in a model.

    Args:
        model: any module; layers without regions are left alone.
        backend: name from `drconv.kernels.BACKENDS`; None lets every call choose the first able one.

    Returns:
        The same model.

    Raises:
        UnknownNameError: no backend has that name.
    """
    if backend is not None:
        BACKENDS[backend]
    for module in model.modules():
        if isinstance(module, RegionLayer):
            module.backend = backend
    return model
