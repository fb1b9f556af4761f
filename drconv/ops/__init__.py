"""Stateless functions: what is computed. How is the business of `drconv.kernels`."""

from drconv.ops.drconv2d_infer import drconv2d_infer, drconv2d_infer_madds, layer_problem
from drconv.ops.guided_mask import guided_mask, softmax_gradient
from drconv.ops.region_conv import region_conv2d, region_conv2d_madds

__all__ = [
    "drconv2d_infer",
    "drconv2d_infer_madds",
    "guided_mask",
    "layer_problem",
    "region_conv2d",
    "region_conv2d_madds",
    "softmax_gradient",
]
