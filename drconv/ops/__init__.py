"""Stateless functions: what is computed. How is the business of `drconv.kernels`."""

from drconv.ops.guided_mask import guided_mask, softmax_gradient
from drconv.ops.region_conv import region_conv2d, region_conv2d_madds

__all__ = ["guided_mask", "region_conv2d", "region_conv2d_madds", "softmax_gradient"]
