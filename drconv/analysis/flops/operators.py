"""Which operators do arithmetic, of what kind, and how much: the handles that fvcore's trace is read with.

Multiply-adds are fvcore's own formulas, and one of ours for each operator of ours. The other kinds are counted only to
stand beside them: norm, pool and resize as fvcore counts them, the rest as one operation per element.
"""

import warnings
from collections import Counter
from collections.abc import Callable
from math import prod
from typing import Any

from drconv.analysis.flops.einsum import einsum_madds
from drconv.analysis.flops.kinds import MADDS
from drconv.ops import drconv2d_infer_madds, region_conv2d_madds

with warnings.catch_warnings():
    # fvcore scripts a loss function at import, which newer releases of torch deprecate.
    warnings.simplefilter("ignore", DeprecationWarning)
    from fvcore.nn.jit_handles import (
        addmm_flop_jit,
        batchnorm_flop_jit,
        bmm_flop_jit,
        conv_flop_jit,
        elementwise_flop_counter,
        get_shape,
        linear_flop_jit,
        norm_flop_counter,
    )

__all__ = ["HANDLES", "OP_FLOPS", "UNCOUNTED", "uncounted"]

UNCOUNTED = "uncounted:"
"""Starts the name of what `uncounted` counts."""

Handle = Callable[[list[Any], list[Any]], Any]


def _region_conv2d(inputs: list[Any], outputs: list[Any]) -> int:
    return region_conv2d_madds(get_shape(inputs[1]), get_shape(inputs[2]))


def _drconv2d_infer(inputs: list[Any], outputs: list[Any]) -> int:
    guide, routing, made = (get_shape(inputs[index]) for index in (2, 4, 6))
    generator, regions, kernel, groups = (inputs[index].toIValue() for index in (9, 10, 12, 16))
    shapes = (get_shape(inputs[0]), get_shape(outputs[0]), guide, routing, made)
    return drconv2d_infer_madds(*shapes, generator, regions, kernel, groups)


OP_FLOPS: dict[str, Callable[[list[Any], list[Any]], int]] = {
    "drconv::region_conv2d": _region_conv2d,
    "drconv::drconv2d_infer": _drconv2d_infer,
}
"""Formula of every operator of ours: (inputs, outputs) of the traced call -> multiply-adds."""


def _elements(value: Any) -> int:
    """Return how many elements a traced value has; numbers, as of the arithmetic of shapes, and lists have none."""
    shape = get_shape(value)
    return prod(shape) if shape else 0


def _madds(formula: Handle, bias: int | None = None) -> Handle:
    """Return a handle for multiply-adds, and for one addition per output where the input of that index is a bias."""

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        found = formula(inputs, outputs)
        counts = Counter({MADDS: int(sum(found.values()) if isinstance(found, Counter) else found)})
        if bias is not None and get_shape(inputs[bias]) is not None:
            counts["bias"] = _elements(outputs[0])
        return counts

    return handle


def _kind(kind: str, formula: Handle) -> Handle:
    return lambda inputs, outputs: Counter({kind: int(formula(inputs, outputs))})


def _per_output(inputs: list[Any], outputs: list[Any]) -> int:
    return _elements(outputs[0])


def _per_input(inputs: list[Any], outputs: list[Any]) -> int:
    return _elements(inputs[0])


def _per_window(inputs: list[Any], outputs: list[Any]) -> int:
    """One operation for each element of each window; the kernel is the second input, a list of integers."""
    sides = [value.toIValue() for value in inputs[1].node().inputs()]
    spatial = len(get_shape(inputs[0])) - 2
    window: int = prod(sides * spatial if len(sides) == 1 else sides)
    return _elements(outputs[0]) * window


def _convolution_mode(inputs: list[Any], outputs: list[Any]) -> int:
    """Multiply-adds of a convolution whose padding is given as a word."""
    madds: int = prod(get_shape(outputs[0])) * prod(get_shape(inputs[1])[1:])
    return madds


def _matmul(inputs: list[Any], outputs: list[Any]) -> int:
    """Multiply-adds of a product of any ranks, broadcast or not: outputs times the length of the inner axis."""
    madds: int = prod(get_shape(outputs[0])) * get_shape(inputs[0])[-1]
    return madds


def _einsum(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Multiply-adds of the products that sum over something; what only multiplies is element-wise."""
    shapes = [get_shape(value) for value in inputs[1].node().inputs()]
    path = inputs[2].toIValue() if len(inputs) > 2 else None
    madds, products = einsum_madds(inputs[0].toIValue(), shapes, path)
    return Counter({MADDS: madds, "elementwise": products})


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Return what both products of an attention cost: queries with keys, weights with values."""
    query, key, value = (get_shape(x) for x in inputs[:3])
    madds: int = prod(query[:-1]) * key[-2] * (query[-1] + value[-1])
    return madds


def _names(listed: str) -> tuple[str, ...]:
    """Return the listed operators in their normal and their in-place form."""
    return tuple(f"aten::{name}{suffix}" for name in listed.split() for suffix in ("", "_"))


_ACTIVATIONS = """
    relu relu6 hardtanh sigmoid hardsigmoid hardswish silu gelu elu selu celu leaky_relu prelu mish softplus tanh
    softmax log_softmax clamp clamp_min clamp_max
"""

_ELEMENTWISE = """
    add sub rsub mul div addcmul pow square sqrt rsqrt exp log neg abs reciprocal where maximum minimum sin cos lerp
"""

_REDUCTIONS = "sum max amax min amin argmax argmin norm linalg_vector_norm"

_MOVES = """
    alias as_strided atleast_2d bool broadcast_tensors ceil channel_shuffle chunk clone column_stack concat diagonal
    dropout embedding empty_like empty_strided eq expand_as feature_dropout fill flip floor ge gt hstack im2col
    index_select isfinite isnan item le lift_fresh linspace logical_and logical_not logical_or lt meshgrid movedim
    native_channel_shuffle ne new_ones new_tensor numpy_T one_hot ones_like pad pixel_shuffle pixel_unshuffle rand
    randn reflection_pad2d repeat replication_pad2d reshape_as resize result_type round scalar_tensor scatter set
    swapaxes tensor_split tile tril triu trunc type_as unflatten unfold unsafe_chunk unsafe_split view_as vstack zero
    Bool Float H T _shape_as_tensor mH mT
"""
"""What moves, makes, compares or rounds values: no arithmetic that anybody counts."""

HANDLES: dict[str, Handle | None] = {
    "drconv::region_conv2d": _madds(_region_conv2d, bias=3),
    "drconv::drconv2d_infer": _madds(_drconv2d_infer, bias=8),
    "aten::_convolution": _madds(conv_flop_jit, bias=2),
    "aten::_convolution_mode": _madds(_convolution_mode, bias=2),
    "aten::linear": _madds(linear_flop_jit, bias=2),
    "aten::addmm": _madds(addmm_flop_jit, bias=0),
    "aten::bmm": _madds(bmm_flop_jit),
    "aten::baddbmm": _madds(lambda inputs, outputs: _matmul(inputs[1:], outputs), bias=0),
    "aten::einsum": _einsum,
    "aten::mm": _madds(_matmul),
    "aten::mv": _madds(_matmul),
    "aten::dot": _madds(_matmul),
    "aten::matmul": _madds(_matmul),
    "aten::scaled_dot_product_attention": _madds(_attention),
    "aten::batch_norm": _kind("norm", batchnorm_flop_jit),
    "aten::group_norm": _kind("norm", norm_flop_counter(2)),
    "aten::layer_norm": _kind("norm", norm_flop_counter(2)),
    "aten::instance_norm": _kind("norm", norm_flop_counter(1)),
    "aten::adaptive_avg_pool2d": _kind("pool", _per_input),
    "aten::adaptive_max_pool2d": _kind("pool", _per_input),
    "aten::mean": _kind("pool", _per_input),
    "aten::max_pool2d": _kind("pool", _per_window),
    "aten::avg_pool2d": _kind("pool", _per_window),
    "aten::upsample_nearest2d": _kind("resize", elementwise_flop_counter(0, 1)),
    "aten::upsample_bilinear2d": _kind("resize", elementwise_flop_counter(0, 4)),
    "aten::upsample_bicubic2d": _kind("resize", elementwise_flop_counter(0, 16)),
    "aten::grid_sampler": _kind("resize", elementwise_flop_counter(0, 4)),
    **dict.fromkeys(_names(_ACTIVATIONS), _kind("activation", _per_output)),
    **dict.fromkeys(_names(_ELEMENTWISE), _kind("elementwise", _per_output)),
    **dict.fromkeys(_names(_REDUCTIONS), _kind("elementwise", _per_input)),
    **dict.fromkeys(_names(_MOVES), None),
}
"""Operator as fvcore names it -> its handle; None where there is no arithmetic."""


def uncounted(name: str) -> Handle:
    """Return a handle for an operator without a formula: its elements, as an estimate of what it computes."""
    key = UNCOUNTED + name
    return lambda inputs, outputs: Counter({key: sum(map(_elements, outputs))})
