"""The operator against cuDNN's convolution, naive, and what the released code does: forward, backward, steps."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from cases import Case, Drawn, draw
from findings import Findings
from place import PRECISIONS, Place, float32_products
from race import peak_memory, race
from released import Released
from torch import Tensor, nn

from drconv.layers import DRConv2d, fused_inference
from drconv.ops import guided_mask, region_conv2d

__all__ = ["backward", "forward", "forward_3x3", "layers", "maps", "naive_and_released", "peaks", "steps"]

_TIMED = ("bfloat16", "float32", "tf32")
_WIDE = ((64, 64, 56, 256), (64, 384, 14, 256), (384, 64, 14, 256), (116, 116, 14, 256), (128, 128, 28, 256),
         (256, 256, 14, 256), (232, 232, 7, 512), (960, 160, 7, 512))  # fmt: skip
"""Channels, output channels, side and batch: C >= 64, N * P >= 25k."""
_TAIL = ((24, 24, 28, 256), (48, 48, 14, 256), (96, 96, 7, 256), (58, 58, 28, 256), (232, 232, 7, 256))
_DENSE = ((64, 64, 56, 64), (128, 128, 28, 64), (256, 256, 14, 128))
_STEPS = ((64, 64, 56, 256), (116, 116, 14, 256), (256, 256, 14, 256), (232, 232, 7, 512))


def _shapes(place: Place, shapes: tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
    """Return shapes; in rehearsal one, and tiny."""
    return [(4, 4, 2, 1)] if place.is_rehearsal else list(shapes)


def _case(channels: int, outs: int, side: int, batch: int, kernel: int = 1, **other: Any) -> Case:
    name = f"{channels}->{outs}{f' {kernel}x{kernel}' if kernel > 1 else ''} @ {side}, batch {batch}"
    other = {"maps": "smooth", "layout": "channels_last", **other}
    return Case(name, channels, outs, (side, side), batch, kernel, padding=kernel // 2, **other)


def _ours(case: Case, drawn: Drawn, backend: str = "triton") -> Callable[[], Tensor]:
    return partial(region_conv2d, drawn.x, drawn.filters, drawn.scores, **case.settings, backend=backend)


def _conv(case: Case, drawn: Drawn) -> Callable[[], Tensor]:
    """Return cuDNN's convolution of the same sizes, channels_last, whatever the layout of ours."""
    shape = drawn.filters.shape[-4:]
    weight = drawn.filters.reshape(-1, *shape)[0].clone(memory_format=torch.channels_last)
    x = drawn.x.contiguous(memory_format=torch.channels_last)
    return partial(F.conv2d, x, weight, **case.settings)


@cache
def _copy_bandwidth(place: Place) -> float:
    """Return bytes per second that a copy reads and writes together."""
    source = torch.empty(1 << (10 if place.is_rehearsal else 30), dtype=torch.uint8, device=place.device)
    target = torch.empty_like(source)
    timing = race(place, {"copy": partial(target.copy_, source)}, 1.0)["copy"]
    return 2 * source.numel() / timing.median


def peaks(place: Place, found: Findings) -> None:
    """Measure what the machine gives: copies, and matrix products in every precision."""
    if not place.is_rehearsal:
        found.details["copy, bytes per second"] = _copy_bandwidth(place)
    side = 16 if place.is_rehearsal else 8192
    for precision in _TIMED:
        a, b = (torch.randn(side, side, device=place.device, dtype=PRECISIONS[precision]) for _ in range(2))
        with float32_products(precision):
            timing = race(place, {"product": partial(torch.mm, a, b)}, 1.0)["product"]
        if not place.is_rehearsal:
            found.details[f"matrix product, FLOP/s, {precision}"] = 2 * side**3 / timing.median


def _floor(place: Place, case: Case, drawn: Drawn) -> float:
    """Return the least seconds in which input, filters and output can be read and written once."""
    output = case.batch * case.outs * case.output_size[0] * case.output_size[1] * drawn.x.element_size()
    return (drawn.x.nbytes + drawn.filters.nbytes + drawn.scores.nbytes + output) / _copy_bandwidth(place)


def _forward(place: Place, found: Findings, bar: str, case: Case, precision: str, with_floor: bool) -> None:
    drawn = draw(case, place.device, PRECISIONS[precision])
    with torch.inference_mode(), float32_products(precision):
        timings = race(place, {"conv": _conv(case, drawn), "ours": _ours(case, drawn)})
    ours, conv = timings["ours"], timings["conv"]
    floor = _floor(place, case, drawn)
    ratio = ours.ratio_to(conv).median
    if with_floor and floor > conv.median:
        ratio = ours.median / floor
    found.measure(
        bar, case.name, ratio, ours_us=1e6 * ours.median, conv_us=1e6 * conv.median, floor_us=1e6 * floor,
        rounds=len(ours.samples), iqr_us=1e6 * ours.iqr,
    )  # fmt: skip


def forward(place: Place, found: Findings) -> None:
    """Measure 1x1 convolutions."""
    for precision in _TIMED:
        for shape in _shapes(place, _WIDE):
            _forward(place, found, f"forward {precision}", _case(*shape), precision, True)
    for shape in _shapes(place, _TAIL):
        _forward(place, found, "forward tail", _case(*shape), "bfloat16", False)
    for shape in _shapes(place, _WIDE):
        _forward(place, found, "forward NCHW", _case(*shape, layout="NCHW"), "bfloat16", False)


def forward_3x3(place: Place, found: Findings) -> None:
    """Measure 3x3 convolutions, dense and depthwise."""
    for precision in _TIMED:
        for shape in _shapes(place, _DENSE):
            _forward(place, found, f"forward 3x3 {precision}", _case(*shape, kernel=3), precision, False)
    for channels, _, side, batch in _shapes(place, ((96, 96, 56, 64), (240, 240, 14, 256))):
        case = _case(channels, channels, side, batch, 3, groups=channels)
        _forward(place, found, "forward depthwise", case, "bfloat16", False)


def naive_and_released(place: Place, found: Findings) -> None:
    """Measure all filters everywhere, one thread per output, and the memory that a call takes."""
    for shape in _shapes(place, _WIDE):
        case = _case(*shape)
        drawn = draw(case, place.device, torch.bfloat16)
        with torch.inference_mode():
            timings = race(place, {"ours": _ours(case, drawn), "naive": _ours(case, drawn, "naive")}, 3.0)
            taken = peak_memory(place, _ours(case, drawn))
        output = case.batch * case.outs * case.output_size[0] * case.output_size[1] * 2
        found.measure("naive", case.name, timings["naive"].ratio_to(timings["ours"]).median)
        found.measure("memory", case.name, taken / output - 1, bytes=taken)
    try:
        kernels = Released(place)
    except RuntimeError as error:
        found.skip("the kernels that do what the released code does", str(error))
        return
    for *shape, kernel in (
        ((4, 4, 2, 1, 3),) if place.is_rehearsal else (*((*s, 1) for s in _STEPS), (64, 64, 56, 64, 3))
    ):
        case = _case(*shape, kernel=kernel)
        drawn = draw(case, place.device, torch.float32)
        mask = guided_mask(drawn.scores).int()
        x, grad = drawn.x.contiguous(), drawn.grad.contiguous()
        with torch.inference_mode(), float32_products("float32"):
            released = partial(kernels.forward, x, drawn.filters, mask, case.padding)
            timings = race(place, {"ours": _ours(case, drawn), "released": released}, 3.0)
            found.measure("released", case.name, timings["released"].ratio_to(timings["ours"]).median)
        with float32_products("float32"):
            released = partial(kernels.backward, grad, x, drawn.filters, mask, case.padding)
            ours = _gradients(_ours(case, drawn), (drawn.x, drawn.filters, drawn.scores), drawn.grad)
            timings = race(place, {"ours": ours, "released": released}, 3.0)
            found.measure("released backward", case.name, timings["released"].ratio_to(timings["ours"]).median)


def _gradients(call: Callable[[], Tensor], leaves: tuple[Tensor, ...], grad: Tensor) -> Callable[[], object]:
    """Return the backward pass alone, of an output that is made once."""
    for leaf in leaves:
        leaf.requires_grad_()
    output = call()
    return partial(torch.autograd.grad, output, leaves, grad, retain_graph=True)


def backward(place: Place, found: Findings) -> None:
    """Measure gradients of input and filters."""
    for precision in _TIMED:
        for shape in _shapes(place, _STEPS):
            case = _case(*shape)
            drawn = draw(case, place.device, PRECISIONS[precision])
            conv = _conv(case, drawn)
            ours = _gradients(_ours(case, drawn), (drawn.x, drawn.filters), drawn.grad)
            x, weight = (t.requires_grad_() for t in conv.args)
            with float32_products(precision):
                timings = race(place, {"ours": ours, "conv": _gradients(conv, (x, weight), drawn.grad)})
            ratio = timings["ours"].ratio_to(timings["conv"]).median
            found.measure(f"backward {precision}", case.name, ratio, conv_us=1e6 * timings["conv"].median)


def steps(place: Place, found: Findings) -> None:
    """Measure training steps of operator and layer: forward and backward, everything that learns included."""
    for shape in _shapes(place, _STEPS):
        case = _case(*shape)
        drawn = draw(case, place.device, torch.bfloat16)
        made = {"device": place.device, "dtype": torch.bfloat16}
        x = drawn.x.requires_grad_()
        conv = nn.Conv2d(case.channels, case.outs, 1, bias=False, **made).to(memory_format=torch.channels_last)
        operands = [t.requires_grad_() for t in (drawn.filters, drawn.scores)]
        calls = {"conv": _step(partial(conv, x), [x, conv.weight], drawn.grad)}
        calls["operator"] = _step(_ours(case, drawn), [x, *operands], drawn.grad)
        for backend in ("triton", "naive"):
            layer = DRConv2d(case.channels, case.outs, 1, bias=False, backend=backend, **made)
            calls[backend] = _step(partial(layer, x), [x, *layer.parameters()], drawn.grad)
        timings = race(place, calls, 4.0)
        microseconds = {f"{name}_us": 1e6 * timing.median for name, timing in timings.items()}
        for bar, name, other in (
            ("step operator", "operator", "conv"), ("step conv", "triton", "conv"), ("step naive", "triton", "naive"),
        ):  # fmt: skip
            found.measure(bar, case.name, timings[name].ratio_to(timings[other]).median, **microseconds)


def _step(call: Callable[[], Tensor], leaves: list[Tensor], grad: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(call(), leaves, grad)


def maps(place: Place, found: Findings) -> None:
    """Measure what scattered regions cost."""
    for shape in _shapes(place, _WIDE):
        calls = {}
        for kind in ("random", "smooth"):
            case = _case(*shape, maps=kind)
            calls[kind] = _ours(case, draw(case, place.device, torch.bfloat16))
        with torch.inference_mode():
            timings = race(place, calls)
        found.measure("maps", case.name, timings["random"].ratio_to(timings["smooth"]).median)


def layers(place: Place, found: Findings) -> None:
    """Measure whole layers at inference, in one call and in stages, and count the kernels they launch."""
    for generator in ("pooled", "basis"):
        for channels, outs, side, batch in _shapes(place, (*_TAIL, (384, 64, 14, 256), (960, 160, 7, 512))):
            case = _case(channels, outs, side, batch)
            made = {"device": place.device, "dtype": torch.bfloat16}
            layer = DRConv2d(channels, outs, 1, bias=False, filter_generator=generator, backend="triton", **made).eval()
            drawn = draw(case, place.device, torch.bfloat16)
            with torch.inference_mode():
                calls = {"conv": _conv(case, drawn), "one call": partial(layer, drawn.x)}
                calls["stages"] = partial(_in_stages, layer, drawn.x)
                timings = race(place, calls)
                name = f"{case.name}, {generator}"
                microseconds = {f"{key}_us": 1e6 * timing.median for key, timing in timings.items()}
                one = timings["one call"]
                found.measure("layer", name, one.ratio_to(timings["conv"]).median, **microseconds)
                found.measure("layer stages", name, timings["stages"].ratio_to(one).median)
                _count_launches(place, found, name, calls["one call"])


def _in_stages(layer: nn.Module, x: Tensor) -> Tensor:
    with fused_inference(False):
        return layer(x)


def _count_launches(place: Place, found: Findings, name: str, call: Callable[[], object]) -> None:
    """Count what runs on the GPU during a call, from the profiler's record, which needs leave to trace."""
    if place.is_rehearsal:
        found.measure("launches", name, 0)
        return
    # A layer that is watched runs in stages; a graph of the call launches what the call does, unseen by the layer.
    replay, _ = place.capture(call)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        replay()
        place.synchronize()
    kernels = [event.name for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    if not kernels:
        found.skip(f"launches of {name}", "the profiler records nothing on this machine")
        return
    found.measure("launches", name, len(kernels), kernels=kernels)
