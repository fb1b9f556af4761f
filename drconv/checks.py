"""Checks of arguments and tensor shapes, in the one style of message: rule, then the values got."""

from collections.abc import Iterable, Sequence
from operator import index

import torch
from torch import Tensor

from drconv.errors import ArgumentError

__all__ = [
    "Size2d",
    "check_region_conv",
    "conv_output_size",
    "flag",
    "pair",
    "pick",
    "positive",
    "probability",
]

Size2d = int | Sequence[int]


def pair(name: str, value: Size2d, minimum: int) -> tuple[int, int]:
    """Return an int or a sequence of one or two ints as two ints, none below `minimum`."""
    if type(value) is int and value >= minimum:  # most calls, without the detours of the others
        return value, value
    if type(value) is tuple and len(value) == 2 and type(value[0]) is int and type(value[1]) is int:
        first, second = value
        if first >= minimum and second >= minimum:  # a layer's
            return first, second
    values = [_index(v) for v in (value if isinstance(value, Iterable) else (value,))]
    if len(values) == 1:
        values = values * 2
    one, other = values if len(values) == 2 else (None, None)
    if one is None or other is None or min(one, other) < minimum:
        raise ArgumentError(f"{name} must be one or two integers of at least {minimum}, got {name}={value!r}")
    return one, other


_MOST = 2**31 - 1
"""No count of channels, regions or experts is larger; tensors could not hold it."""


def positive(name: str, value: int) -> int:
    """Return a count that must be an integer of at least 1."""
    count = _index(value)
    if count is None or count < 1:
        raise ArgumentError(f"{name} must be an integer of at least 1, got {name}={value!r}")
    if isinstance(count, int) and count > _MOST:
        raise ArgumentError(f"{name} must be at most {_MOST}, got {name}={value!r}")
    return count


def flag(name: str, value: bool) -> bool:
    """Return what must be true or false."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{name} must be true or false, got {name}={value!r}")
    return value


def probability(name: str, value: float) -> float:
    """Return a number that must be at least 0 and below 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ArgumentError(f"{name} must be a number of at least 0 and below 1, got {name}={value!r}")
    return value


def _index(value: object) -> int | None:
    """Return what can serve as an integer (also NumPy's) as one, else None."""
    # Symbolic sizes of a traced graph must stay symbolic.
    if isinstance(value, torch.SymInt):
        return value  # type: ignore[return-value]
    try:
        return None if isinstance(value, bool) else index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def pick(name: str, value: str, allowed: Sequence[str]) -> str:
    """Return a value that must be one of a few words."""
    if value not in allowed:
        raise ArgumentError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {name}={value!r}")
    return value


def conv_output_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Return the length of a convolution's output along one axis, in positions."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _shape(tensor: Tensor) -> str:
    return "[" + ", ".join(map(str, tensor.shape)) + "]"


def _check_dtypes(input: Tensor, region_filters: Tensor, guided_feature: Tensor, bias: Tensor | None) -> None:
    tensors = {"input": input, "region_filters": region_filters, "guided_feature": guided_feature}
    if bias is not None:
        tensors["bias"] = bias
    for name, tensor in tensors.items():
        if tensor.device != input.device:
            raise ArgumentError(
                f"all tensors must be on one device, got input on {input.device} and {name} on {tensor.device}"
            )
        if not tensor.dtype.is_floating_point:
            raise ArgumentError(f"{name} must be a floating-point tensor, got {tensor.dtype}")
        # The guided feature may be wider than the rest: its softmax and argmax deserve the precision.
        if name != "guided_feature" and tensor.dtype != input.dtype:
            raise ArgumentError(f"{name} must have the dtype of input, got {tensor.dtype} and {input.dtype}")


def check_region_conv(
    input: Tensor,
    region_filters: Tensor,
    guided_feature: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> None:
    """Check that the arguments of `region_conv2d` describe one convolution.

    Raises:
        ArgumentError: a rank, size, dtype or device does not fit; the message names it and the values got.
    """
    positive("groups", groups)
    if input.dim() != 4:
        raise ArgumentError(f"input must be [B, C, H, W], got {_shape(input)}")
    if region_filters.dim() not in (5, 6):
        raise ArgumentError(
            "region_filters must be [B, M, O, C/groups, K, K], or [M, O, C/groups, K, K] shared by the batch, "
            f"got {_shape(region_filters)}"
        )
    if guided_feature.dim() != 4:
        raise ArgumentError(f"guided_feature must be [B, M, U, V], got {_shape(guided_feature)}")
    _check_dtypes(input, region_filters, guided_feature, bias)
    batch, channels, height, width = input.shape
    if region_filters.dim() == 6 and region_filters.shape[0] != batch:
        raise ArgumentError(
            f"region_filters must have the batch size of input, got {_shape(region_filters)} for {_shape(input)}"
        )
    num_regions, out_channels, in_per_group, kernel_h, kernel_w = region_filters.shape[-5:]
    if min(region_filters.shape[-5:]) < 1:
        raise ArgumentError(f"region_filters must have no empty axis after the batch, got {_shape(region_filters)}")
    if channels != in_per_group * groups:
        raise ArgumentError(
            f"input must have C/groups * groups = {in_per_group} * {groups} channels to fit region_filters "
            f"{_shape(region_filters)}, got {_shape(input)}"
        )
    if out_channels % groups:
        raise ArgumentError(f"out_channels must be divisible by groups, got out_channels={out_channels}, {groups=}")
    if bias is not None and tuple(bias.shape) != (out_channels,):
        raise ArgumentError(f"bias must be [{out_channels}], got {_shape(bias)}")
    size = tuple(
        conv_output_size(*axis)
        for axis in zip((height, width), (kernel_h, kernel_w), stride, padding, dilation, strict=True)
    )
    if size[0] < 1 or size[1] < 1:
        raise ArgumentError(
            f"the kernel must fit into the padded input, got input {_shape(input)}, kernel_size=({kernel_h}, "
            f"{kernel_w}), padding={tuple(padding)}, dilation={tuple(dilation)}"
        )
    if tuple(guided_feature.shape) != (batch, num_regions, *size):
        raise ArgumentError(
            f"guided_feature must be [B, M, U, V] = [{batch}, {num_regions}, {size[0]}, {size[1]}], "
            f"got {_shape(guided_feature)}"
        )
