"""`region_conv2d`: the public function, and the library operator behind it.

The operator carries the requested backend as a string and chooses at run time, so that counting, tracing, compiling
and exporting see one name. Backends get a ready mask; what makes the argmax trainable is written here, once.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.flop_counter import register_flop_formula

from drconv.checks import Size2d, check_region_conv, pair
from drconv.errors import DrconvError
from drconv.kernels import Prepared, RegionConvProblem, choose_backend, memory_format_of
from drconv.ops.guided_mask import guided_mask, softmax_gradient
from drconv.ops.soft_filters import with_soft_filter_gradient
from drconv.ops.watched import is_unwatched

__all__ = ["region_conv2d", "region_conv2d_madds"]

_library = torch.library.Library("drconv", "DEF")
_SETTINGS = "int[2] stride, int[2] padding, int[2] dilation, int groups, str? backend"
_library.define(
    "region_conv2d(Tensor input, Tensor region_filters, Tensor guided_feature, Tensor? bias, "
    + _SETTINGS
    + ") -> Tensor"
)
_library.define(
    "region_conv2d_backward(Tensor grad_output, Tensor input, Tensor region_filters, Tensor guided_feature, "
    + _SETTINGS
    + ", bool[3] wanted) -> (Tensor, Tensor, Tensor)"
)
_forward_op = torch.ops.drconv.region_conv2d.default
_backward_op = torch.ops.drconv.region_conv2d_backward.default


def region_conv2d(
    input: Tensor,
    region_filters: Tensor,
    guided_feature: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Size2d = 1,
    padding: Size2d = 0,
    dilation: Size2d = 1,
    groups: int = 1,
    backend: str | None = None,
    soft_filter_gradient: bool = False,
) -> Tensor:
    r"""Convolve every output position with the filter of the region it belongs to.

    The region of a position is the argmax of its guided feature. Backward treats that choice as a softmax, so the
    guided feature receives a gradient although the forward pass is hard; input and filters receive the gradients of
    the hard choice. Multiply-adds per position do not grow with M. Introduced as DRConv in "Dynamic Region-Aware
    Convolution" (CVPR 2021, arXiv 2003.12243).

    Args:
        input: feature map, `[B, C, H, W]`, any strides.
        region_filters: one filter bank per sample and region, `[B, M, O, C/groups, K, K]`, or one per region shared
            by the batch, `[M, O, C/groups, K, K]`; dtype of `input`.
        guided_feature: region scores at output resolution, `[B, M, U, V]`, any floating dtype; ties go to the lowest
            region, NaN counts as largest.
        bias: added to every region alike, `[O]`.
        stride: as in `torch.nn.functional.conv2d`.
        padding: zeros added on each side, one or two integers.
        dilation: as in `torch.nn.functional.conv2d`.
        groups: channel groups, as in `torch.nn.functional.conv2d`.
        backend: name from `drconv.kernels.BACKENDS`; None takes the first one able to run this call.
        soft_filter_gradient: whether every position adds to the gradient of every region's filter, weighted by the
            softmax of its scores (`use_alpha` of the released code, off there too), and not to its own region's alone.
            Costs M gradients of the filters, and copies the output.

    Returns:
        Output feature map, `[B, O, U, V]`; channels_last where `input` is.

    Raises:
        ArgumentError: the shapes do not describe one convolution.
        UnknownNameError: no backend has that name.
        BackendError: the named backend cannot run this call; the message carries its reason.

    Example:
        >>> x, filters = torch.randn(2, 16, 14, 14), torch.randn(2, 4, 32, 16, 3, 3)
        >>> region_conv2d(x, filters, torch.randn(2, 4, 14, 14), padding=1).shape
        torch.Size([2, 32, 14, 14])
    """
    settings = (pair("stride", stride, 1), pair("padding", padding, 0), pair("dilation", dilation, 1), groups, backend)
    if soft_filter_gradient and torch.is_grad_enabled() and region_filters.requires_grad:
        keywords: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        hard = region_conv2d(input, region_filters.detach(), guided_feature, bias, **keywords, backend=backend)
        return with_soft_filter_gradient(hard, region_filters, input, guided_feature, settings[:4])
    if not torch.compiler.is_compiling() and is_unwatched():
        direct = _direct(input, region_filters, guided_feature, bias, settings)
        if direct is not None:
            return direct
    output: Tensor = _forward_op(input, region_filters, guided_feature, bias, *settings)
    return output


def region_conv2d_madds(region_filters_shape: Sequence[int], guided_feature_shape: Sequence[int]) -> int:
    """Return the multiply-adds of one call: one filter per output position, whatever a backend really executes."""
    out_channels, in_per_group, kernel_h, kernel_w = region_filters_shape[-4:]
    batch, _, height, width = guided_feature_shape
    return batch * height * width * out_channels * in_per_group * kernel_h * kernel_w


# The settings of every call, as the schemas have them: stride, padding, dilation, groups, backend.
Settings = tuple[list[int], list[int], list[int], int, str | None]


def _problem(
    input: Tensor, region_filters: Tensor, guided_feature: Tensor, bias: Tensor | None, settings: Settings
) -> RegionConvProblem:
    """Check a call and read its sizes."""
    stride, padding, dilation, groups, _ = settings
    check_region_conv(input, region_filters, guided_feature, bias, stride, padding, dilation, groups)
    size = (guided_feature.shape[2], guided_feature.shape[3])
    pairs = ((stride[0], stride[1]), (padding[0], padding[1]), (dilation[0], dilation[1]))
    return RegionConvProblem.of(input, region_filters, size, *pairs, groups)


# What calls have been found to be: checking one anew takes longer than convolving a small map.
_known_problems: dict[tuple[object, ...], RegionConvProblem] = {}
_KNOWN_LIMIT = 4096


def _known_problem(
    input: Tensor, region_filters: Tensor, guided_feature: Tensor, bias: Tensor | None, settings: Settings
) -> RegionConvProblem:
    """Return what `_problem` does, remembered by all that it reads; not for symbolic sizes."""
    stride, padding, dilation, groups, _ = settings
    key = (
        input.shape, input.stride(), input.dtype, input.device, region_filters.shape, region_filters.dtype,
        region_filters.device, guided_feature.shape, guided_feature.dtype, guided_feature.device,
        None if bias is None else (bias.shape, bias.dtype, bias.device),
        *stride, *padding, *dilation, groups,
    )  # fmt: skip
    problem = _known_problems.get(key)
    if problem is None:
        problem = _problem(input, region_filters, guided_feature, bias, settings)
        if len(_known_problems) >= _KNOWN_LIMIT:
            _known_problems.clear()
        _known_problems[key] = problem
    return problem


_PLAIN = (Tensor, torch.nn.Parameter)

# None where the dispatcher has to be asked: the chosen backend cannot prepare such calls.
_prepared: dict[tuple[object, ...], Prepared | None] = {}


def _are_plain(*tensors: Tensor) -> bool:
    """Whether these are no subclasses, and hold their values in memory as they are."""
    for tensor in tensors:  # noqa: SIM110  # `all` takes half a microsecond more
        if type(tensor) not in _PLAIN or tensor.is_neg() or tensor._is_zerotensor():
            return False
    return True


def _direct(
    input: Tensor, region_filters: Tensor, guided_feature: Tensor, bias: Tensor | None, settings: tuple[Any, ...]
) -> Tensor | None:
    """Call the backend without PyTorch's dispatcher, or return None where that would make a difference.

    The dispatcher's way into Python and back takes longer than convolving a small map. To be used while nobody watches.
    """
    dtype = input.dtype
    if (
        not _are_plain(input, region_filters, guided_feature)
        or region_filters.dtype is not dtype
        or not (input.is_cpu and region_filters.is_cpu and guided_feature.is_cpu)
        or type(settings[3]) is not int
    ):
        return None
    key: tuple[object, ...] = (
        input.shape, input.stride(), dtype, region_filters.shape, region_filters.stride(),
        guided_feature.shape, guided_feature.stride(), guided_feature.dtype, settings,
    )  # fmt: skip
    if bias is not None:
        if not _are_plain(bias) or bias.dtype is not dtype or not bias.is_cpu:
            return None
        key = (*key, bias.shape)
    try:
        call = _prepared[key]
    except KeyError:
        call = _prepare(key, input, region_filters, guided_feature, bias, settings)
    if call is None:
        return None
    if torch.is_grad_enabled() and (
        input.requires_grad
        or region_filters.requires_grad
        or guided_feature.requires_grad
        or (bias is not None and bias.requires_grad)
    ):
        output: Tensor = _RegionConv2d.apply(  # type: ignore[no-untyped-call]
            input, region_filters, guided_feature, bias, settings, call
        )
        return output
    return call(input, region_filters, guided_feature, bias)


def _prepare(
    key: tuple[object, ...],
    input: Tensor,
    region_filters: Tensor,
    guided_feature: Tensor,
    bias: Tensor | None,
    settings: tuple[Any, ...],
) -> Prepared | None:
    # What cannot be a convolution raises here as it does below the dispatcher.
    problem = _problem(input, region_filters, guided_feature, bias, settings)
    prepared = None
    if problem.batch > 0:
        prepared = choose_backend(problem, settings[-1]).prepare(problem, input, region_filters, guided_feature)
    if len(_prepared) >= _KNOWN_LIMIT:
        _prepared.clear()
    _prepared[key] = prepared
    return prepared


def _empty_output(input: Tensor, problem: RegionConvProblem) -> Tensor:
    shape = (problem.batch, problem.out_channels, *problem.output_size)
    return torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=problem.memory_format)


def _empty_gradients(
    input: Tensor, region_filters: Tensor, guided_feature: Tensor, wanted: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return unwritten gradients in their layouts; one that is not wanted has no elements."""

    def empty(like: Tensor, memory_format: torch.memory_format, want: bool) -> Tensor:
        shape = like.shape if want else (0,)
        layout = memory_format if want else torch.contiguous_format
        return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)

    return (
        empty(input, memory_format_of(input), wanted[0]),
        empty(region_filters, torch.contiguous_format, wanted[1]),
        empty(guided_feature, memory_format_of(guided_feature), wanted[2]),
    )


def _forward(
    input: Tensor, region_filters: Tensor, guided_feature: Tensor, bias: Tensor | None, *settings: Any
) -> Tensor:
    problem = _known_problem(input, region_filters, guided_feature, bias, settings)
    chosen = choose_backend(problem, settings[-1])
    if problem.batch == 0:
        return _empty_output(input, problem)
    mask = (chosen.guided_mask() or guided_mask)(guided_feature)
    if chosen.adds_bias:
        return chosen.forward()(problem, input, region_filters, mask, bias)
    output = chosen.forward()(problem, input, region_filters, mask)
    if bias is not None:
        output += bias.view(-1, 1, 1)
    return output


def _forward_fake(
    input: Tensor, region_filters: Tensor, guided_feature: Tensor, bias: Tensor | None, *settings: Any
) -> Tensor:
    return _empty_output(input, _problem(input, region_filters, guided_feature, bias, settings))


def _backward(
    grad_output: Tensor, input: Tensor, region_filters: Tensor, guided_feature: Tensor, *settings: Any
) -> tuple[Tensor, Tensor, Tensor]:
    *call, wanted = settings
    problem = _known_problem(input, region_filters, guided_feature, None, tuple(call))
    chosen = choose_backend(problem, call[-1])
    if problem.batch == 0:
        grads = _empty_gradients(input, region_filters, guided_feature, wanted)
        return grads[0], grads[1].zero_(), grads[2]
    mask = (chosen.guided_mask() or guided_mask)(guided_feature)
    found = chosen.backward()(problem, grad_output, input, region_filters, mask, tuple(wanted))
    grad_guide = None
    if found.products is not None:
        grad_guide = softmax_gradient(guided_feature, found.products)
        grad_guide = grad_guide.contiguous(memory_format=memory_format_of(guided_feature))
    made = (found.input, found.region_filters, grad_guide)
    grads = _empty_gradients(input, region_filters, guided_feature, (False, False, False))
    first, second, third = (empty if grad is None else grad for empty, grad in zip(grads, made, strict=True))
    return first, second, third


def _backward_fake(
    grad_output: Tensor, input: Tensor, region_filters: Tensor, guided_feature: Tensor, *settings: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_gradients(input, region_filters, guided_feature, settings[-1])


class _RegionConv2d(torch.autograd.Function):
    """Join the two operators below autograd. Differentiable once: the softmax is a stand-in, not a derivative."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        region_filters: Tensor,
        guided_feature: Tensor,
        bias: Tensor | None,
        settings: tuple[Any, ...],
        call: Prepared | None,
    ) -> Tensor:
        ctx.save_for_backward(input, region_filters, guided_feature)
        ctx.settings = settings
        ctx.direct = call is not None
        if call is not None:
            return call(input, region_filters, guided_feature, bias)
        # Also below the tracking of views: a backend may build its output as a view of its own buffer, and a caller
        # must be able to write to it in place.
        with torch._C._AutoDispatchBelowADInplaceOrView():
            output: Tensor = _forward_op(input, region_filters, guided_feature, bias, *settings)
        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        wanted = list(ctx.needs_input_grad[:3])
        grads: list[Tensor | None] = [None, None, None]
        if any(wanted):
            with torch.no_grad():
                tensors = (grad_output, *ctx.saved_tensors)
                direct = ctx.direct and not torch.compiler.is_compiling() and is_unwatched() and _are_plain(*tensors)
                found = (_backward if direct else _backward_op)(*tensors, *ctx.settings, wanted)
            if torch.is_grad_enabled():
                causes = (grad_output, *ctx.saved_tensors)
                found = [_NotTwice.apply(grad, *causes) for grad in found]  # type: ignore[no-untyped-call]
            grads = [grad if want else None for grad, want in zip(found, wanted, strict=True)]
        grad_bias = grad_output.sum((0, 2, 3)) if ctx.needs_input_grad[3] else None
        return *grads, grad_bias, None, None


class _NotTwice(torch.autograd.Function):
    """Pass a gradient on, and raise if it is differentiated: without this, its derivative would silently be zero."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, *causes: Tensor) -> Tensor:
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        raise DrconvError(
            "region_conv2d can be differentiated once, got a second derivative of it: its guided feature has a "
            "stand-in for a gradient, which has no derivative; leave the layer out of gradient penalties"
        )


def _autograd(
    input: Tensor, region_filters: Tensor, guided_feature: Tensor, bias: Tensor | None, *settings: Any
) -> Tensor:
    tensors = (input, region_filters, guided_feature, bias)
    # Outside of every level of forward-mode differentiation no tensor has a tangent, and asking takes its time.
    if forward_ad._current_level >= 0 and any(
        t is not None and forward_ad.unpack_dual(t).tangent is not None for t in tensors
    ):
        raise DrconvError(
            "region_conv2d has no forward-mode derivative, got an input with a tangent (torch.func.jvp, forward_ad); "
            "use reverse mode"
        )
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        output: Tensor = _RegionConv2d.apply(*tensors, settings, None)  # type: ignore[no-untyped-call]
        return output
    with torch._C._AutoDispatchBelowAutograd():
        below: Tensor = _forward_op(*tensors, *settings)
        return below


def _autocast(device_type: str, key: str) -> Any:
    """Return the kernel that runs the convolution in the autocast dtype; the guided feature keeps its own."""
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
        return tensor if tensor.dtype == torch.float64 else tensor.to(dtype)

    def kernel(
        input: Tensor, region_filters: Tensor, guided_feature: Tensor, bias: Tensor | None, *settings: Any
    ) -> Tensor:
        dtype = torch.get_autocast_dtype(device_type)
        bias = None if bias is None else cast(bias, dtype)
        with torch._C._ExcludeDispatchKeyGuard(keys):
            output: Tensor = _forward_op(
                cast(input, dtype), cast(region_filters, dtype), guided_feature, bias, *settings
            )
        return output

    return kernel


_library.impl("region_conv2d", _forward, "CompositeExplicitAutograd")
_library.impl("region_conv2d", _autograd, "Autograd")
for _device_type, _key in (("cpu", "AutocastCPU"), ("cuda", "AutocastCUDA"), ("mps", "AutocastMPS")):
    _library.impl("region_conv2d", _autocast(_device_type, _key), _key)
_library.impl("region_conv2d_backward", _backward, "CompositeExplicitAutograd")
torch.library.register_fake("drconv::region_conv2d", _forward_fake, lib=_library)
torch.library.register_fake("drconv::region_conv2d_backward", _backward_fake, lib=_library)


# FlopCounterMode counts a multiply-add as two operations.
@register_flop_formula(_forward_op.overloadpacket)
def _forward_flops(input: list[int], filters: list[int], guided: list[int], *_: Any, **__: Any) -> int:
    return 2 * region_conv2d_madds(filters, guided)


@register_flop_formula(_backward_op.overloadpacket)
def _backward_flops(
    grad: list[int], input: list[int], filters: list[int], guided: list[int], *settings: Any, **_: Any
) -> int:
    # The guided feature needs what every one of the M filters gives at every position.
    wanted = settings[-1]
    passes: int = wanted[0] + wanted[1] + filters[-5] * wanted[2]
    return 2 * region_conv2d_madds(filters, guided) * passes
