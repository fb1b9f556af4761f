"""`drconv2d_infer`: a whole dynamic region-aware layer as one operator, for inference."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from drconv.checks import conv_output_size, pick
from drconv.errors import ArgumentError, BackendError
from drconv.kernels import (
    Geometry,
    LayerParameters,
    LayerProblem,
    RegionConvProblem,
    choose_inference,
    memory_format_of,
)
from drconv.kernels.layer import ACTIVATIONS, GENERATORS
from drconv.ops.region_conv import region_conv2d_madds

__all__ = ["drconv2d_infer", "drconv2d_infer_madds", "layer_problem"]

_library = torch.library.Library("drconv", "FRAGMENT")
_library.define(
    "drconv2d_infer(Tensor input, Tensor? guided_feature, Tensor? guide_weight, Tensor? guide_bias, "
    "Tensor? routing_weight, Tensor? routing_bias, Tensor made_weight, Tensor? made_bias, Tensor? bias, "
    "str filter_generator, int num_regions, int out_channels, int[2] kernel_size, int[2] stride, int[2] padding, "
    "int[2] dilation, int groups, int[2] guide_stride, int[2] guide_padding, int[2] guide_dilation, str? activation, "
    "str? backend) -> Tensor"
)
_op = torch.ops.drconv.drconv2d_infer.default

Pair = Sequence[int]


def drconv2d_infer(
    input: Tensor,
    guided_feature: Tensor | None,
    parameters: LayerParameters,
    *,
    filter_generator: str,
    num_regions: int,
    out_channels: int,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    guide_stride: Pair,
    guide_padding: Pair,
    guide_dilation: Pair,
    activation: str | None = None,
    backend: str | None = None,
) -> Tensor:
    """Run a whole layer in one call: regions, filters for those that occur, convolution, bias, activation.

    What `drconv.DRConv2d` does by itself where it can, see `docs/backends.md`. There is no gradient.

    Args:
        input: `[B, C, H, W]`.
        guided_feature: scores at output resolution, `[B, M, U, V]`; None takes those of the guide.
        parameters: of guide and generator, and the bias.
        filter_generator: `"pooled"`, `"basis"` or `"learned"`.
        num_regions: M.
        out_channels: O.
        kernel_size: of the convolution, rows first.
        stride: of the convolution.
        padding: zeros added on each side.
        dilation: of the convolution.
        groups: channel groups.
        guide_stride: of the guide, whose weight tells its kernel size.
        guide_padding: of the guide.
        guide_dilation: of the guide.
        activation: what follows the bias: None, `"relu"`, `"relu6"` or `"hardswish"`.
        backend: name from `drconv.kernels.BACKENDS`.

    Returns:
        `[B, O, U, V]`; channels_last where `input` is.

    Raises:
        ArgumentError: the shapes do not describe one layer.
        BackendError: the backend cannot run a whole layer in one call; the message carries its reason.
    """
    p = parameters
    output: Tensor = _op(
        input, guided_feature, p.guide_weight, p.guide_bias, p.routing_weight, p.routing_bias, p.made_weight,
        p.made_bias, p.bias, filter_generator, num_regions, out_channels, kernel_size, stride, padding, dilation,
        groups, guide_stride, guide_padding, guide_dilation, activation, backend,
    )  # fmt: skip
    return output


def layer_problem(
    input: Tensor, guided_feature: Tensor | None, parameters: LayerParameters, settings: tuple[Any, ...]
) -> LayerProblem:
    """Check a call and read its sizes; `settings` are those of the operator, from `filter_generator` on.

    Raises:
        ArgumentError: the shapes do not describe one layer.
    """
    generator, regions, out_channels, kernel, stride, padding, dilation, groups, *guide, activation, _ = settings
    pick("filter_generator", generator, GENERATORS)
    if activation is not None:
        pick("activation", activation, [name for name in ACTIVATIONS if name is not None])
    if input.dim() != 4 or input.shape[1] % groups or out_channels % groups or min(regions, groups) < 1:
        raise ArgumentError(
            f"input must be [B, C, H, W] with C and out_channels divisible by groups, got {list(input.shape)}, "
            f"out_channels={out_channels}, groups={groups}, num_regions={regions}"
        )
    p, in_channels = parameters, input.shape[1]
    size = _output_size(input, kernel, stride, padding, dilation)
    if min(size) < 1:
        raise ArgumentError(f"the kernel must fit into the padded input, got an output of {size}")
    depth, taps = in_channels // groups, prod(kernel)
    mixed = {"pooled": regions, "basis": p.made_weight.shape[0], "learned": 1}[generator]
    made = out_channels * depth
    if generator == "pooled":
        _must_hold("made_weight", p.made_weight, regions * made * mixed)
        _must_hold("made_bias", p.made_bias, regions * made)
    else:
        _must_hold("made_weight", p.made_weight, (mixed if generator == "basis" else regions) * made * taps)
        _must_hold("made_bias", p.made_bias, None)
    routed = None if generator == "learned" else regions * mixed
    if (p.routing_weight is None) != (routed is None):
        raise ArgumentError(f"routing_weight must be given but for learned filters, got {generator!r}")
    _must_hold("routing_weight", p.routing_weight, None if routed is None else routed * in_channels)
    _must_hold("routing_bias", p.routing_bias, routed)
    _must_hold("bias", p.bias, out_channels)
    if (guided_feature is None) == (p.guide_weight is None):
        raise ArgumentError("either a guided_feature or a guide_weight must be given, got both or neither")
    geometry = None
    if p.guide_weight is not None:
        geometry = Geometry(_pair(p.guide_weight.shape[2:]), *(_pair(values) for values in guide))
        _must_hold("guide_weight", p.guide_weight, regions * in_channels * prod(geometry.kernel_size))
        _must_hold("guide_bias", p.guide_bias, regions)
        given = _output_size(input, geometry.kernel_size, *guide)
    elif guided_feature is not None:
        if tuple(guided_feature.shape[:2]) != (input.shape[0], regions):
            raise ArgumentError(
                f"guided_feature must be [{input.shape[0]}, {regions}, U, V], got {list(guided_feature.shape)}"
            )
        given = _pair(guided_feature.shape[2:])
    if given != size:
        raise ArgumentError(f"guide and convolution must have one output size, got {given} and {size}")
    conv = RegionConvProblem(
        device_type=input.device.type,
        dtype=input.dtype,
        batch=input.shape[0],
        in_channels=in_channels,
        out_channels=out_channels,
        groups=groups,
        num_regions=regions,
        input_size=_pair(input.shape[2:]),
        output_size=size,
        kernel_size=_pair(kernel),
        stride=_pair(stride),
        padding=_pair(padding),
        dilation=_pair(dilation),
        shared_filters=generator == "learned",
        memory_format=memory_format_of(input),
    )
    return LayerProblem(conv, generator, mixed, geometry, activation)


def _pair(values: Sequence[int]) -> tuple[int, int]:
    first, second = values
    return first, second


def _output_size(input: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> tuple[int, int]:
    axes = zip(input.shape[2:], kernel, stride, padding, dilation, strict=True)
    return _pair([conv_output_size(*axis) for axis in axes])


def _must_hold(name: str, tensor: Tensor | None, elements: int | None) -> None:
    if tensor is not None and tensor.numel() != elements:
        raise ArgumentError(f"{name} must have {elements or 0} elements, got {list(tensor.shape)}")


def _infer(input: Tensor, guided_feature: Tensor | None, *rest: Any) -> Tensor:
    parameters, settings = LayerParameters(*rest[:7]), rest[7:]
    problem = layer_problem(input, guided_feature, parameters, settings)
    backend = choose_inference(problem, settings[-1])
    input = _dense(input, problem.conv.memory_format)
    if guided_feature is not None:
        guided_feature = guided_feature.to(input.dtype).contiguous()
    # The guide may be channels_last, the others are read as they lie.
    tensors: list[Any] = [None if tensor is None else tensor.contiguous() for tensor in rest[:7]]
    dense = LayerParameters(*tensors)
    call = backend.prepare_inference(problem, dense, input, guided_feature)
    output = None if call is None else call(input, guided_feature)
    if output is None:
        raise BackendError(f"backend {backend.name!r} cannot read parameters of other dtypes or devices than the input")
    return output


def _dense(input: Tensor, memory_format: torch.memory_format) -> Tensor:
    return input if input.is_contiguous(memory_format=memory_format) else input.clone(memory_format=memory_format)


def _fake(input: Tensor, guided_feature: Tensor | None, *rest: Any) -> Tensor:
    problem = layer_problem(input, guided_feature, LayerParameters(*rest[:7]), rest[7:])
    shape = (problem.conv.batch, problem.conv.out_channels, *problem.conv.output_size)
    return torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=problem.conv.memory_format)


_library.impl("drconv2d_infer", _infer, "CompositeExplicitAutograd")
torch.library.register_fake("drconv::drconv2d_infer", _fake, lib=_library)


def drconv2d_infer_madds(
    input: Sequence[int],
    output: Sequence[int],
    guide_weight: Sequence[int] | None,
    routing_weight: Sequence[int] | None,
    made_weight: Sequence[int],
    filter_generator: str,
    num_regions: int,
    kernel_size: Sequence[int],
    groups: int,
) -> int:
    """Return the multiply-adds of one call, stage by stage as the layer counts them: whatever occurs, all filters.

    Args:
        input: shape of the input, `[B, C, H, W]`.
        output: shape of the output, `[B, O, U, V]`.
        guide_weight: shape, or None where the guided feature is given.
        routing_weight: shape, or None where filters are learned.
        made_weight: shape of what filters are mixed of.
        filter_generator: `"pooled"`, `"basis"` or `"learned"`.
        num_regions: M.
        kernel_size: of the convolution.
        groups: channel groups.
    """
    batch, in_channels = input[:2]
    size = (batch, num_regions, *output[2:])
    filters = (num_regions, output[1], in_channels // groups, *kernel_size)
    guide = 0 if guide_weight is None else batch * prod(output[2:]) * prod(guide_weight)
    # The pooled form has coefficients for every tap, the basis one set for all.
    bins = prod(kernel_size) if filter_generator == "pooled" else 1
    routing = 0 if routing_weight is None else batch * bins * prod(routing_weight)
    mixing = 0
    if filter_generator == "pooled":
        mixing = batch * bins * prod(made_weight)
    elif filter_generator == "basis":
        mixing = batch * num_regions * prod(made_weight)
    return guide + routing + mixing + region_conv2d_madds(filters, size)


# FlopCounterMode counts a multiply-add as two operations.
@register_flop_formula(_op.overloadpacket)
def _flops(
    input: list[int], guided: list[int] | None, guide_weight: list[int] | None, guide_bias: Any,
    routing_weight: list[int] | None, routing_bias: Any, made_weight: list[int], made_bias: Any, bias: Any,
    generator: str, regions: int, out_channels: int, kernel: list[int], stride: list[int], padding: list[int],
    dilation: list[int], groups: int, *_: Any, **__: Any,
) -> int:  # fmt: skip
    axes = zip(input[2:], kernel, stride, padding, dilation, strict=True)
    output = [input[0], out_channels, *(conv_output_size(*axis) for axis in axes)]
    weights = (guide_weight, routing_weight, made_weight)
    return 2 * drconv2d_infer_madds(input, output, *weights, generator, regions, kernel, groups)
