"""The GPU kernels against the pixel loop and the reference: forward and every gradient."""

from dataclasses import replace

import pytest
import torch

from drconv.kernels.triton import depthwise, filter_gradient, input_gradient, launch
from drconv.ops import guided_mask, region_conv2d
from tests.kernels.cases import Case, make
from tests.kernels.pixel_loop import Answer, pixel_loop
from tests.kernels.triton.small import CASES, IDS, ROW, call, case, leaves, run
from tests.tolerances import TIGHT, assert_near


def assert_answers_near(actual: Answer, expected: Answer, tolerance: float | None = None) -> None:
    for what, a, e in zip(Answer._fields, actual, expected, strict=True):
        assert_near(a, e, what, tolerance=tolerance)


@pytest.mark.usefixtures("poisoned_empty")
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_agrees_with_pixel_loop(case: Case, device: torch.device) -> None:
    problem = make(case, torch.float32)
    assert_answers_near(run(problem, device), pixel_loop(problem), TIGHT)


@pytest.mark.usefixtures("poisoned_empty")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["pointwise-eight", "3x3-shared", "depthwise-strided"])
def test_agrees_with_reference_in_half_precision(name: str, dtype: torch.dtype, device: torch.device) -> None:
    problem = make(case(name), dtype)
    actual, expected = run(problem, device), run(problem, torch.device("cpu"), "reference")
    assert all(a.dtype == dtype for a in actual)
    assert_answers_near(actual, expected)


@pytest.mark.parametrize("wanted", [(1, 0, 0), (0, 1, 0), (0, 0, 1)], ids=str)
@pytest.mark.parametrize("name", ["pointwise", "depthwise-shared"])
def test_gradients_one_at_a_time(name: str, wanted: tuple[int, int, int], device: torch.device) -> None:
    problem = make(case(name), torch.float32)
    expected = pixel_loop(problem)
    tensors = leaves(problem, device)[:3]
    for tensor, want in zip(tensors, wanted, strict=True):
        tensor.requires_grad_(bool(want))
    output = region_conv2d(*tensors, **problem.settings, backend="triton")
    output.backward(problem.grad_output.to(device))
    for tensor, want, e, what in zip(tensors, wanted, expected[1:4], Answer._fields[1:4], strict=True):
        assert (tensor.grad is not None) == bool(want)
        if want:
            assert_near(tensor.grad.cpu(), e, what)


@pytest.mark.parametrize(
    "name", ["pointwise-tiles", "3x3-one-region", "depthwise-strided", "pointwise-half-of-channels"]
)
def test_layout_of_outputs_is_that_of_the_reference(name: str, device: torch.device) -> None:
    problem = make(case(name), torch.float32)
    actual, expected = run(problem, device), run(problem, torch.device("cpu"), "reference")
    for what, a, e in zip(Answer._fields, actual, expected, strict=True):
        strides = [[s for s, n in zip(t.stride(), t.shape, strict=True) if n > 1] for t in (a, e)]
        assert strides[0] == strides[1], what


def test_strides_of_filters_gradients_and_scores_are_followed(device: torch.device) -> None:
    problem = make(replace(case("pointwise"), kernel=(2, 1)), torch.float32)
    expected = pixel_loop(problem)
    inner_out = (0, 1, 4, 5, 3, 2)
    problem.region_filters = problem.region_filters.permute(inner_out).contiguous().permute(0, 1, 5, 4, 2, 3)
    problem.guided_feature = problem.guided_feature.transpose(1, 3).contiguous().transpose(1, 3)
    problem.grad_output = problem.grad_output.transpose(0, 1).contiguous().transpose(0, 1)
    assert not problem.region_filters.is_contiguous()
    assert_answers_near(run(problem, device), expected, TIGHT)


def test_scores_in_any_dtype(device: torch.device) -> None:
    scores = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    scores[0, 2, 0, 0] = scores[0, 4, 0, 0] = torch.nan
    scores[1, :, 1] = scores[1, :, 1].round()
    scores[1, 3, 0, 0] = scores[1, 1, 0, 0] + 1e-12  # one number in float32
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        found = ROW.guided_mask()(scores.to(dtype).to(device))
        assert found.dtype == torch.int32
        assert torch.equal(found.cpu().long(), guided_mask(scores.to(dtype)))


@pytest.mark.parametrize("name", ["pointwise-shared", "3x2-stride-dilation", "depthwise-strided"])
def test_wide_offsets(name: str, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_INDEX_LIMIT", 0)
    problem = make(case(name), torch.float32)
    assert_answers_near(run(problem, device), pixel_loop(problem), TIGHT)


def test_which_tensors_need_wide_offsets() -> None:
    last = 2**31
    assert not launch.needs_wide([torch.empty(last, device="meta")])
    assert launch.needs_wide([torch.empty(1, device="meta"), torch.empty(last + 1, device="meta")])
    assert launch.needs_wide([torch.empty(1, device="meta").expand(2, 3).as_strided((2, 3), (last, 1))])
    assert not launch.needs_wide([torch.empty(1, device="meta").expand(last, 3)])


@pytest.mark.parametrize("name", ["3x3", "3x3-shared", "depthwise-shared"])
def test_work_in_parts(name: str, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """What taps give is held for one sample at a time, and regions are summed in several parts."""
    monkeypatch.setattr(input_gradient, "_HELD", 1)
    monkeypatch.setattr(filter_gradient, "_LEAST", 1)
    parts = []
    add = filter_gradient.add_parts
    monkeypatch.setattr(filter_gradient, "add_parts", lambda p, t, w: parts.append(len(t)) or add(p, t, w))
    monkeypatch.setattr(depthwise, "add_parts", filter_gradient.add_parts)
    problem = make(replace(case(name), regions=2), torch.float32)
    assert_answers_near(run(problem, device), pixel_loop(problem), TIGHT)
    assert parts[0] > 1


def test_tf32_is_followed(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    assert launch.precision(torch.float32) == "ieee"
    problem = make(case("pointwise"), torch.float32)
    expected = pixel_loop(problem)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        assert launch.precision(torch.float32) == "tf32"
        assert launch.precision(torch.bfloat16) == "ieee"
        assert_answers_near(run(problem, device), expected, 2e-3)
    finally:
        torch.set_float32_matmul_precision(before)
    assert launch.precision(torch.float32) == "ieee"


def test_deterministic(device: torch.device) -> None:
    problem = make(case("3x3-shared"), torch.float32)
    first, second = run(problem, device), run(problem, device)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_infinite_filter_of_another_region_does_not_leak(device: torch.device) -> None:
    x, guide = torch.randn(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)
    filters = torch.randn(1, 2, 4, 2, 1, 1)
    filters[:, 1] = torch.inf
    x, filters, guide = (t.to(device) for t in (x, filters, guide))
    assert region_conv2d(x, filters, guide, backend="triton").isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_guide_gradient_of_nearly_equal_filters(dtype: torch.dtype, device: torch.device) -> None:
    """As the basis generator starts: what sets the filters apart is smaller than the rounding of a result."""
    problem = make(case("pointwise"), torch.float32)
    mean = problem.region_filters.mean(-5, keepdim=True)
    problem.region_filters = mean.sign() * 4 + (problem.region_filters - mean).sign() * 2**-5
    problem = problem.to(dtype)
    actual, expected = run(problem, device), run(problem, torch.device("cpu"), "reference")
    assert_near(actual.guided_feature, expected.guided_feature, "guided_feature", dtype)


def test_empty_batch(device: torch.device) -> None:
    problem = make(replace(case("pointwise"), batch=0), torch.float32)
    answer = run(problem, device)
    assert answer.output.shape == (0, 3, 4, 5)
    assert (answer.bias == 0).all()


def test_mask_of_any_integers(device: torch.device) -> None:
    problem = make(case("pointwise"), torch.float32)
    x, filters, guide, bias = (t.detach() for t in leaves(problem, device))
    mask = guided_mask(guide)
    outputs = [ROW.forward()(call(problem), x, filters, mask.to(dtype), bias) for dtype in (torch.int64, torch.uint8)]
    assert torch.equal(*outputs)


def test_madds_are_those_of_one_filter() -> None:
    problem = call(make(case("pointwise"), torch.float32))
    assert ROW.madds(problem) == problem.madds
