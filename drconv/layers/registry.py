"""The dynamic layers by name."""

from drconv.layers.base import DynamicLayer
from drconv.layers.drconv2d import DRConv2d
from drconv.layers.dynamic_conv2d import DynamicConv2d
from drconv.registry import Registry

__all__ = ["LAYERS"]

LAYERS: Registry[type[DynamicLayer]] = Registry("layer")
LAYERS.add("drconv2d", DRConv2d)
LAYERS.add("dynamic_conv2d", DynamicConv2d)
