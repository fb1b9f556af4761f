"""Every kernel against the reference in float64: output and all gradients, on fresh inputs and poisoned outputs."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import product
from typing import Any

import torch
from cases import LAYOUTS, MAPS, Case, draw
from findings import Findings
from place import PRECISIONS, Place, float32_products, poisoned
from released import Released
from torch import Tensor, nn

from drconv.kernels.triton import launch
from drconv.layers import DRConv2d, fused_inference
from drconv.ops import guided_mask, region_conv2d

__all__ = ["check_layers", "check_operators", "check_released", "check_settings", "error_of", "operator"]

LIMITS = {"float32": 1e-5, "tf32": 5e-3, "float16": 5e-3, "bfloat16": 3e-2}
"""Largest error allowed, as a fraction of the largest value compared with."""
_NAMES = ("output", "input", "filters", "scores", "bias")


def _cases(place: Place) -> tuple[list[Case], list[Case]]:
    """Return cases for every dtype and layout, and cases of settings, for which one of each will do."""
    if place.is_rehearsal:
        point = Case("1x1", 5, 3, (4, 5), batch=1, regions=3)
        dense = Case("3x3", 3, 2, (4, 3), batch=1, kernel=3, padding=1, regions=2)
        depthwise = Case("depthwise", 4, 4, (4, 3), batch=1, regions=2)
        tiles = point.with_(name="1x1 many tiles", size=(7, 9), regions=2)
    else:
        point = Case("1x1", 37, 70, (29, 31), batch=3)
        dense = Case("3x3", 35, 40, (23, 19), batch=3, kernel=3, padding=1)
        depthwise = Case("depthwise", 70, 70, (29, 31), batch=3)
        tiles = point.with_(name="1x1 many tiles", channels=130, outs=257, size=(71, 67))
    depthwise = depthwise.with_(kernel=3, padding=1, groups=depthwise.channels)
    everywhere = [point.with_(name=f"1x1 {maps} regions", maps=maps) for maps in MAPS]
    return [*everywhere, tiles, dense, depthwise], [
        point.with_(name="1x1 one region", regions=1),
        point.with_(name="1x1 groups", channels=4 * (point.channels // 4) + 4, outs=6, groups=2),
        point.with_(name="1x1 shared", shared=True, batch=2),
        point.with_(name="1x1 strided, padded", stride=2, padding=1),
        point.with_(name="1x1 one position", size=(1, 1), batch=2),
        point.with_(name="1x1 17 regions", regions=17),
        dense.with_(name="3x3 strided, dilated", stride=2, dilation=2, padding=2, size=(7, 6)),
        dense.with_(name="2x2 groups", kernel=2, padding=0, channels=4, outs=2, groups=2),
        dense.with_(name="3x3 shared, smooth", shared=True, batch=2, maps="smooth"),
        depthwise.with_(name="depthwise strided, dilated", stride=2, dilation=2, padding=2),
        depthwise.with_(name="depthwise shared, half", shared=True, maps="half"),
    ]


def operator(case: Case, leaves: tuple[Tensor, ...], grad: Tensor, backend: str = "triton") -> list[Tensor]:
    """Return output and gradients of `region_conv2d`."""
    fresh = [t.detach().clone(memory_format=torch.preserve_format).requires_grad_() for t in leaves]
    output = region_conv2d(*fresh, **case.settings, backend=backend)
    output.backward(grad)
    return [output.detach(), *(leaf.grad for leaf in fresh)]


def error_of(actual: Tensor, expected: Tensor) -> float:
    """Return the largest error over the largest value; NaN if anything is, infinity where the shape is another."""
    if actual.shape != expected.shape:
        return float("inf")
    actual, expected = actual.detach().double(), expected.detach()
    return float((actual - expected).abs().max() / expected.abs().max().clamp_min(1e-6))


def check_operators(place: Place, found: Findings, small: bool = False) -> None:
    """Check forward, every gradient, and that a second run gives the same bits.

    Args:
        place: where.
        found: what has been found.
        small: whether to take two dtypes alone, for tools that make every launch slow.
    """
    _fresh_seed(found)
    precisions = ("float32", "bfloat16") if small else tuple(PRECISIONS)
    if place.is_rehearsal:
        # The interpreter takes seconds where a GPU takes none.
        _check_in_turn(place, found, _cases(place)[0], 1)
        return
    for case, layout, precision in product(_cases(place)[0], LAYOUTS, precisions):
        _check_operator(place, found, case.with_(layout=layout), precision)


def check_settings(place: Place, found: Findings) -> None:
    """Check strides, dilations, groups, shared filters and odd numbers of regions in the same way."""
    _fresh_seed(found)
    _check_in_turn(place, found, _cases(place)[1], 1 if place.is_rehearsal else 2)


def _check_in_turn(place: Place, found: Findings, cases: list[Case], each: int) -> None:
    """Check each case in so many of the dtypes and layouts, others for every case."""
    for turn, case in enumerate(cases):
        for number in range(turn * each, (turn + 1) * each):
            layout, precision = tuple(LAYOUTS)[number % 2], tuple(PRECISIONS)[(number + number // 4) % 4]
            _check_operator(place, found, case.with_(layout=layout), precision)


def _fresh_seed(found: Findings) -> None:
    torch.manual_seed(torch.seed() % 2**31)
    found.details["seed"] = torch.initial_seed()


def _check_operator(place: Place, found: Findings, case: Case, precision: str) -> None:
    drawn = draw(case, place.device, PRECISIONS[precision])
    exact = drawn.double()
    expected = operator(case, exact.leaves, exact.grad, "reference")
    with float32_products(precision), poisoned():
        actual = operator(case, drawn.leaves, drawn.grad)
        # The interpreter runs programs in their order: once is enough to know that this works.
        again = [] if place.is_rehearsal and found.checks else operator(case, drawn.leaves, drawn.grad)
    name = f"{case.name}, {case.layout}, {precision}"
    for what, a, e in zip(_NAMES, actual, expected, strict=True):
        found.check(f"{name}: {what}", error_of(a, e), LIMITS[precision])
    for what, a, b in zip(_NAMES, actual, again, strict=False):
        # NaN is for the checks above to find.
        found.check(f"{name}: {what} differing the second time", float((a != b).logical_and(a == a).sum()), 0)


def check_released(place: Place, found: Findings) -> None:
    """Check the yardstick that does what the released code does."""
    try:
        kernels = Released(place)
    except RuntimeError as error:
        found.skip("the kernels that do what the released code does", str(error))
        return
    sizes: dict[str, Any] = {"channels": 5, "outs": 7, "size": (6, 5), "regions": 3}
    for case in (Case("released 1x1", **sizes), Case("released 3x3", **sizes, kernel=3, padding=1)):
        drawn = draw(case, place.device, torch.float32)
        drawn.bias.zero_()
        exact = drawn.double()
        expected = operator(case, exact.leaves, exact.grad, "reference")
        mask = guided_mask(drawn.scores).int()
        output = kernels.forward(drawn.x, drawn.filters, mask, case.padding)
        found.check(f"{case.name}: output", error_of(output, expected[0]), LIMITS["float32"])
        *gradients, products = kernels.backward(drawn.grad, drawn.x, drawn.filters, mask, case.padding)
        soft = drawn.scores.softmax(1)
        gradients.append(soft * (products - (soft * products).sum(1, keepdim=True)))
        for what, a, e in zip(_NAMES[1:], gradients, expected[1:4], strict=False):
            found.check(f"{case.name}: {what}", error_of(a, e), LIMITS["float32"])


def check_layers(place: Place, found: Findings) -> None:
    """Check whole layers at inference, in one call, against their stages in float64."""
    sizes = {"in_channels": 19, "out_channels": 37} if place.is_rehearsal else {"in_channels": 116, "out_channels": 70}
    dense: dict[str, Any] = {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "padding": 1, "stride": 2}
    layers: dict[str, dict[str, Any]] = {
        "pooled 1x1": {**sizes, "kernel_size": 1, "num_regions": 3},
        "basis 1x1": {**sizes, "kernel_size": 1, "num_regions": 4, "filter_generator": "basis"},
        "pooled 3x3, groups": {**dense, "groups": 2, "num_regions": 2},
        "basis 3x3": {**dense, "filter_generator": "basis", "num_regions": 2},
    }
    size = (4, 3) if place.is_rehearsal else (31, 29)
    for turn, ((name, settings), precision) in enumerate(product(layers.items(), PRECISIONS)):
        if place.is_rehearsal and precision != ("float32", "bfloat16")[turn // len(PRECISIONS) % 2]:
            continue
        layer = DRConv2d(**settings, device=place.device, backend="triton").eval()
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.3)
        layer.to(PRECISIONS[precision])
        layout = tuple(LAYOUTS)[(turn + turn // len(PRECISIONS)) % 2]
        x = torch.randn(3, settings["in_channels"], *size, device=place.device, dtype=PRECISIONS[precision])
        x = x.contiguous(memory_format=LAYOUTS[layout])
        with torch.no_grad(), float32_products(precision):
            with poisoned(), _counted_launches() as launches:
                actual = layer(x)
            exact = deepcopy(layer).double()
            exact.backend = "reference"
            with fused_inference(False):
                expected = exact(x.double())
                scores = exact.guide(x.double())
        label = f"layer {name}, {layout}, {precision}"
        found.check(f"{label}: launches other than four", abs(len(launches) - 4), 0)
        _compare_where_sure(found, label, actual, expected, scores, precision)


@contextmanager
def _counted_launches() -> Iterator[list[Any]]:
    """List the launches of our kernels, so that a layer that ran in stages is noticed."""
    listed: list[Any] = []
    start = launch.start

    def counted(*arguments: Any) -> None:
        listed.append(arguments[0])
        start(*arguments)

    launch.start = counted
    try:
        yield listed
    finally:
        launch.start = start


def _compare_where_sure(
    found: Findings, name: str, actual: Tensor, expected: Tensor, scores: Tensor, precision: str
) -> None:
    """Compare where the best score leads by more than rounding; elsewhere another region may be as right."""
    best, second = scores.topk(2, dim=1).values.unbind(1)
    sure = (best - second > LIMITS[precision] * scores.abs().max())[:, None]
    found.check(f"{name}: share of positions whose region is open", 1 - float(sure.double().mean()), 0.35)
    found.check(f"{name}: output", error_of(torch.where(sure, actual.double(), 0), torch.where(sure, expected, 0)),
                2 * LIMITS[precision])  # fmt: skip
