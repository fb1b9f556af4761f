"""What a fused call is asked to do: a whole dynamic layer, from its input to its output."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from drconv.kernels.backend import RegionConvProblem

__all__ = ["ACTIVATIONS", "GENERATORS", "Geometry", "Inference", "LayerParameters", "LayerProblem"]

GENERATORS = ("pooled", "basis", "learned")
"""Where filters may come from, see `drconv.layers.filter_generator`."""

ACTIVATIONS = (None, "relu", "relu6", "hardswish")
"""What may follow the bias."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """How a convolution reads its input, rows first, as in `nn.Conv2d`."""

    kernel_size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair


@dataclass(frozen=True)
class LayerProblem:
    """Sizes and settings of one inference of a layer.

    Attributes:
        conv: its convolution; `memory_format` is that of the output, where the input may also be contiguous.
        generator: one of `GENERATORS`.
        num_mixed: how many filters are mixed into one; 1 where they are learned.
        guide: geometry of its guide, or None where the guided feature is given.
        activation: one of `ACTIVATIONS`.
    """

    conv: "RegionConvProblem"
    generator: str
    num_mixed: int
    guide: Geometry | None
    activation: str | None


@dataclass(frozen=True, eq=False)
class LayerParameters:
    """What a layer has learned; all None but `made_weight` where there is nothing.

    Attributes:
        guide_weight, guide_bias: `[M, C, K, K]`, `[M]`.
        routing_weight, routing_bias: from pooled input to coefficients, `[M * num_mixed, C]`, `[M * num_mixed]`.
        made_weight, made_bias: what filters are mixed of. Pooled: `[M * O * C/groups, num_mixed]` and
            `[M * O * C/groups]`; basis: `[num_mixed, O, C/groups * K * K]`; learned: `[M, O, C/groups * K * K]`.
        bias: `[O]`.
    """

    guide_weight: Tensor | None
    guide_bias: Tensor | None
    routing_weight: Tensor | None
    routing_bias: Tensor | None
    made_weight: Tensor
    made_bias: Tensor | None
    bias: Tensor | None


Inference = Callable[[Tensor, Tensor | None], Tensor | None]
"""(input, guided_feature or None) -> output: calls of one layer with the same sizes, strides, dtypes and devices.

Parameters are read anew at every call. None is returned where one has been given another shape, dtype or device.
"""
