"""Shapes, strides, layouts and groups drawn at random, against the reference."""

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from drconv.checks import conv_output_size
from drconv.kernels import BACKENDS
from drconv.ops import region_conv2d
from tests.kernels.native.instruction_set import use_isa
from tests.kernels.test_choice import PROBLEM
from tests.tolerances import TIGHT, assert_near

ISAS = ["portable", "avx2", "avx512"]


def strided(shape: tuple[int, ...], order: tuple[int, ...], gap: int) -> Tensor:
    """Return random values whose axes lie in memory in a given order, with a gap behind the innermost."""
    sizes = [shape[axis] for axis in order]
    wide = torch.randn(*sizes[:-1], sizes[-1] + gap)[..., : sizes[-1]]
    return wide.permute([order.index(axis) for axis in range(len(shape))])


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    integer = lambda low, high: draw(st.integers(low, high))  # noqa: E731
    kernel = (integer(1, 4), integer(1, 4))
    stride, padding, dilation = ((integer(low, 3), integer(low, 3)) for low in (1, 0, 1))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = tuple(integer(max(1, r - 2 * p), max(1, r - 2 * p) + 9) for r, p in zip(reach, padding, strict=True))
    batch, regions = integer(1, 3), draw(st.sampled_from([1, 2, 3, 8, 17]))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    per_in, per_out = draw(st.sampled_from([1, 2, 5, 8, 19, 33])), draw(st.sampled_from([1, 3, 8, 16, 21, 50]))
    if draw(st.booleans()) and draw(st.booleans()):
        groups, per_in, per_out = draw(st.sampled_from([2, 7, 16, 35])), 1, 1
    shared = draw(st.booleans())
    out = tuple(conv_output_size(*axis) for axis in zip(size, kernel, stride, padding, dilation, strict=True))
    map_order = draw(st.sampled_from([(0, 1, 2, 3), (0, 2, 3, 1), (2, 0, 3, 1), (1, 0, 3, 2)]))
    filter_shape = (*(() if shared else (batch,)), regions, groups * per_out, per_in, *kernel)
    *banks, out_axis, in_axis, down, across = range(len(filter_shape))
    filter_order = draw(
        st.sampled_from(
            [
                (*banks, out_axis, in_axis, down, across),
                (*banks, down, across, in_axis, out_axis),
                (*banks, out_axis, down, across, in_axis),
                (out_axis, *banks, in_axis, across, down),
            ]
        )
    )
    torch.manual_seed(integer(0, 2**31))
    guide = strided((batch, regions, *out), draw(st.sampled_from([(0, 1, 2, 3), (0, 2, 3, 1), (3, 1, 0, 2)])), 0)
    if draw(st.booleans()):
        guide = guide.round()
    return {
        "input": strided((batch, groups * per_in, *size), map_order, integer(0, 2)),
        "region_filters": strided(filter_shape, filter_order, integer(0, 2)),
        "guided_feature": guide,
        "bias": draw(st.sampled_from([None, torch.randn(groups * per_out, 2)[:, 1]])),
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "grad_order": draw(st.sampled_from([(0, 1, 2, 3), (0, 2, 3, 1), (2, 1, 3, 0)])),
    }


def train(problem: dict[str, Any], grad: Tensor, backend: str) -> list[Tensor]:
    names = ("input", "region_filters", "guided_feature")
    leaves = [problem[name].detach().requires_grad_() for name in names]
    rest = {name: problem[name] for name in ("bias", "stride", "padding", "dilation", "groups")}
    output = region_conv2d(*leaves, **rest, backend=backend)
    return [output, *torch.autograd.grad(output, leaves, grad)]


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(problem=problems())
def test_agrees_with_reference(isa: str, problem: dict[str, Any]) -> None:
    reason = BACKENDS["native"].why_not(PROBLEM)
    if reason is not None:
        pytest.skip(reason)
    shape = region_conv2d(
        *(problem[name] for name in ("input", "region_filters", "guided_feature")),
        **{name: problem[name] for name in ("stride", "padding", "dilation", "groups")},
        backend="reference",
    ).shape
    grad = strided(tuple(shape), problem["grad_order"], 1)
    expected = train(problem, grad, "reference")
    with use_isa(isa):
        torch.use_deterministic_algorithms(True)  # fills new memory with NaN
        try:
            actual = train(problem, grad, "native")
        finally:
            torch.use_deterministic_algorithms(False)
    for what, a, e in zip(("output", "input", "region_filters", "guided_feature"), actual, expected, strict=True):
        assert_near(a, e, what, tolerance=2 * TIGHT)
        strides = [[s for s, n in zip(t.stride(), t.shape, strict=True) if n > 1] for t in (a, e)]
        assert strides[0] == strides[1], what


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 9), st.integers(1, 40)),
    order=st.sampled_from([(0, 1, 2, 3), (0, 2, 3, 1), (3, 2, 1, 0)]),
    odd=st.sampled_from([None, float("nan"), float("inf"), -float("inf")]),
)
def test_regions_are_those_of_argmax(
    isa: str, shape: tuple[int, ...], order: tuple[int, ...], odd: float | None
) -> None:
    torch.manual_seed(0)
    scores = strided(shape, order, 0).round()
    if odd is not None:
        scores[torch.rand(shape) < 0.2] = odd
    own = BACKENDS["native"].guided_mask()
    assert own is not None
    with use_isa(isa):
        assert torch.equal(own(scores).long(), scores.argmax(1))
