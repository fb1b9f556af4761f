"""Every backend against the pixel loop in its widest dtype, and against the reference in the others."""

from collections.abc import Iterator
from functools import cache

import pytest
import torch
from torch import Tensor

import drconv.kernels.eager as eager
from drconv.kernels import BACKENDS, RegionConvProblem
from drconv.ops import region_conv2d
from tests.kernels.cases import CASES, IDS, ON_CPU, Case, Problem, make
from tests.kernels.native.instruction_set import use_isa
from tests.kernels.pixel_loop import Answer, pixel_loop
from tests.tolerances import TIGHT, assert_near

# `eager` takes one of several ways by size; each is forced on every case. `native` is built for several processors.
WAYS = [
    *ON_CPU,
    "eager-sorted",
    "eager-in-blocks",
    "native-portable",
    "native-avx2",
    "native-avx512",
    "native-threads",
]

SMALL = RegionConvProblem.of(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1, 1, 1), (1, 1), (1, 1), (0, 0), (1, 1), 1)


def backend_of(way: str) -> str:
    return way.partition("-")[0]


def ways(dtype: torch.dtype) -> list[str]:
    return [way for way in WAYS if dtype in BACKENDS[backend_of(way)].dtypes]


def widest(way: str) -> torch.dtype:
    return torch.float64 if way in ways(torch.float64) else torch.float32


@pytest.fixture
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name: str = request.param
    reason = BACKENDS[backend_of(name)].why_not(SMALL)
    if reason is not None:
        pytest.skip(reason)
    if name == "native-threads":
        threads = torch.get_num_threads()
        torch.set_num_threads(3)
        yield name
        torch.set_num_threads(threads)
        return
    if name.startswith("native-"):
        with use_isa(name.partition("-")[2]):
            yield name
        return
    if name != "eager":
        monkeypatch.setattr(eager, "_ALL_FILTERS_SIZE", 0)
    if name == "eager-in-blocks":
        monkeypatch.setattr(eager, "_ROWS_LIMIT", 1)
        monkeypatch.setattr(eager, "_block_length", lambda problem: 4)
    yield name


@cache
def answer(case: Case, dtype: torch.dtype) -> tuple[Problem, Answer]:
    torch.manual_seed(1)
    problem = make(case, dtype)
    return problem, pixel_loop(problem)


@cache
def of_reference(case: Case, dtype: torch.dtype) -> tuple[Problem, Answer]:
    torch.manual_seed(1)
    problem = make(case, dtype)
    return problem, run(problem, "reference")


def strides(tensor: Tensor) -> list[int]:
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


def run(problem: Problem, way: str) -> Answer:
    backend = backend_of(way)
    leaves = [problem.input, problem.region_filters, problem.guided_feature, problem.bias]
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    output = region_conv2d(*leaves, **problem.settings, backend=backend)
    output.backward(problem.grad_output)
    grads: list[Tensor] = [leaf.grad for leaf in leaves]
    return Answer(output.detach(), *grads)


def assert_answers_near(actual: Answer, expected: Answer, tolerance: float | None = None) -> None:
    for what, a, e in zip(Answer._fields, actual, expected, strict=True):
        assert_near(a, e, what, tolerance=tolerance)


@pytest.mark.usefixtures("poisoned_empty")
@pytest.mark.parametrize("way", WAYS, indirect=True)
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_agrees_with_pixel_loop_and_lies_in_memory_as_the_reference(case: Case, way: str) -> None:
    problem, expected = answer(case, widest(way))
    actual = run(problem, way)
    assert_answers_near(actual, expected, TIGHT if widest(way) == torch.float32 else None)
    for what, a, e in zip(Answer._fields, actual, of_reference(case, widest(way))[1], strict=True):
        assert strides(a) == strides(e), what


@pytest.mark.parametrize(
    ("way", "dtype"),
    [
        (way, dtype)
        for dtype in (torch.float32, torch.bfloat16, torch.float16)
        for way in ways(dtype)
        if way != "reference"
    ],
    indirect=["way"],
    ids=str,
)
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_agrees_with_reference_in_dtype(case: Case, way: str, dtype: torch.dtype) -> None:
    problem, expected = of_reference(case, dtype)
    actual = run(problem, way)
    assert all(a.dtype == dtype for a in actual)
    assert_answers_near(actual, expected)


@pytest.mark.parametrize("way", WAYS, indirect=True)
@pytest.mark.parametrize("wanted", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1)], ids=str)
@pytest.mark.parametrize("name", ["plain", "depthwise", "shared-pointwise"])
def test_gradients_one_at_a_time(name: str, wanted: tuple[int, int, int], way: str) -> None:
    problem, expected = answer(CASES[IDS.index(name)], widest(way))
    tensors = [problem.input, problem.region_filters, problem.guided_feature]
    leaves = [t.detach().requires_grad_(bool(want)) for t, want in zip(tensors, wanted, strict=True)]
    region_conv2d(*leaves, **problem.settings, backend=backend_of(way)).backward(problem.grad_output)
    for leaf, want, e, what in zip(leaves, wanted, expected[1:4], Answer._fields[1:4], strict=True):
        assert (leaf.grad is not None) == bool(want)
        if want:
            assert_near(leaf.grad, e, what)


@pytest.mark.parametrize("way", [w for w in WAYS if w != "reference"], indirect=True)
def test_deterministic(way: str) -> None:
    problem = make(CASES[IDS.index("eight-regions")], torch.float32)
    first, second = run(problem, way), run(problem, way)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("backend", ON_CPU)
def test_infinite_filter_of_another_region_does_not_leak(backend: str) -> None:
    x, guide = torch.randn(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)
    filters = torch.randn(1, 2, 4, 2, 1, 1)
    filters[:, 1] = torch.inf
    assert region_conv2d(x, filters, guide, backend=backend).isfinite().all()


@pytest.mark.parametrize(
    ("way", "dtype"),
    [(way, dtype) for dtype in (torch.bfloat16, torch.float16) for way in ways(dtype) if way != "reference"],
    indirect=["way"],
    ids=str,
)
@pytest.mark.parametrize("name", ["plain", "groups-2", "depthwise", "shared-pointwise"])
def test_guide_gradient_of_nearly_equal_filters_in_half_precision(name: str, way: str, dtype: torch.dtype) -> None:
    """As the basis generator starts: what sets the filters apart is smaller than the rounding of a result."""
    problem = make(CASES[IDS.index(name)], torch.float32)
    filters = problem.region_filters
    mean = filters.mean(-5, keepdim=True)
    # Powers of two are exact in half precision: only the computation rounds, not the filters.
    problem.region_filters = mean.sign() * 4 + (filters - mean).sign() * 2**-5
    problem = problem.to(dtype)
    actual, expected = run(problem, way), run(problem, "reference")
    assert_near(actual.guided_feature, expected.guided_feature, "guided_feature", dtype)
