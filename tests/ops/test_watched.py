"""The way past PyTorch's dispatcher: taken where nobody watches, and nowhere else."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import drconv.ops.region_conv as module
from drconv.kernels import BACKENDS
from drconv.ops import region_conv2d
from drconv.ops.watched import is_unwatched
from tests.kernels.test_choice import PROBLEM
from tests.tolerances import assert_near

OP = torch.ops.drconv.region_conv2d.default
BACKWARD_OP = torch.ops.drconv.region_conv2d_backward.default


class Names(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[object] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


class FunctionNames(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[object] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


class Wrapped(Tensor):
    """A subclass that PyTorch has to be asked about."""


def leaves(**kwargs: object) -> list[Tensor]:
    return [torch.randn(shape, **kwargs) for shape in ((2, 4, 7, 7), (2, 3, 6, 4, 3, 3), (2, 3, 7, 7), (6,))]


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that tells by which way every call goes."""
    reason = BACKENDS["native"].why_not(PROBLEM)
    if reason is not None:
        pytest.skip(reason)
    taken: list[str] = []
    direct = module._direct

    def noted(*args: object) -> Tensor | None:
        found = direct(*args)  # type: ignore[arg-type]
        if found is not None:
            taken.append("direct")
        return found

    monkeypatch.setattr(module, "_direct", noted)
    return taken


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_an_unwatched_call_goes_direct(mode: Callable[[], object], ways: list[str]) -> None:
    with mode():  # type: ignore[attr-defined]
        tensors = leaves()
        found = region_conv2d(*tensors, padding=1)
        expected = OP(*tensors, [1, 1], [1, 1], [1, 1], 1, "reference")
    assert ways == ["direct"]
    assert_near(found, expected, "output")
    assert not found._is_view()


def test_gradients_of_both_ways_agree(ways: list[str]) -> None:
    grad = torch.randn(2, 6, 7, 7)
    direct, asked = ([t.requires_grad_() for t in leaves()] for _ in range(2))
    for a, b in zip(direct, asked, strict=True):
        b.data.copy_(a.data)
    region_conv2d(*direct, padding=1).backward(grad)
    with Names() as names:
        region_conv2d(*asked, padding=1).backward(grad)
    assert ways == ["direct"]
    assert OP in names.seen
    assert BACKWARD_OP in names.seen
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(direct, asked, strict=True))


def test_a_backward_pass_is_seen_by_who_comes_later(ways: list[str]) -> None:
    tensors = [t.requires_grad_() for t in leaves()]
    output = region_conv2d(*tensors, padding=1)
    with Names() as names:
        output.sum().backward()
    assert ways == ["direct"]
    assert BACKWARD_OP in names.seen


def test_modes_and_the_profiler_see_the_operator(ways: list[str]) -> None:
    tensors = leaves()
    with FunctionNames() as functions:
        assert not is_unwatched()
        region_conv2d(*tensors, padding=1)
    assert OP in functions.seen
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        assert not is_unwatched()
        region_conv2d(*tensors, padding=1)
    assert "drconv::region_conv2d" in {event.key for event in profiler.key_averages()}
    traced = torch.jit.trace(lambda *t: region_conv2d(*t, padding=1), tuple(tensors), check_trace=False)
    assert "drconv::region_conv2d" in str(traced.graph)
    with torch.autocast("cpu", torch.bfloat16):
        assert region_conv2d(*tensors, padding=1).dtype == torch.bfloat16
    assert ways == []


def test_export_sees_the_operator(ways: list[str]) -> None:
    class Call(torch.nn.Module):
        def forward(self, *tensors: Tensor) -> Tensor:
            return region_conv2d(*tensors, padding=1)

    for strict in (False, True):
        program = torch.export.export(Call(), tuple(leaves()), strict=strict)
        assert OP in {node.target for node in program.graph.nodes}
    assert ways == []


def test_what_is_not_plain_goes_through_the_dispatcher(ways: list[str]) -> None:
    x, filters, guide, bias = leaves()
    expected = region_conv2d(x, filters, guide, bias, padding=1, backend="reference")
    negative = torch._neg_view(-guide)
    assert negative.is_neg()
    ways.clear()
    assert_near(region_conv2d(x, filters, negative, bias, padding=1), expected, "negated view")
    wrapped = region_conv2d(x.as_subclass(Wrapped), filters, guide, bias, padding=1)
    assert type(wrapped) is Wrapped
    assert region_conv2d(x.to("meta"), filters.to("meta"), guide.to("meta"), padding=1).is_meta
    zero = torch._efficientzerotensor(x.shape)
    assert (region_conv2d(zero, filters, guide, padding=1) == 0).all()
    assert ways == []


def test_a_parameter_is_plain(ways: list[str]) -> None:
    x, filters, guide, bias = leaves()
    region_conv2d(x, torch.nn.Parameter(filters), guide, torch.nn.Parameter(bias), padding=1).sum().backward()
    assert ways == ["direct"]


def test_hooks_on_saved_tensors_are_called(ways: list[str]) -> None:
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        region_conv2d(*(t.requires_grad_() for t in leaves()), padding=1).sum().backward()
    assert len(packed) >= 3
    assert ways == ["direct"]


def test_strides_of_every_tensor_count() -> None:
    """Calls that differ in nothing but strides, one after another: none may take what another was prepared for."""
    x, filters, guide, bias = leaves()
    expected = region_conv2d(x, filters, guide, bias, padding=1, backend="reference")
    last = torch.channels_last
    for maps in (x, x.contiguous(memory_format=last)):
        for scores in (guide, guide.contiguous(memory_format=last), torch.stack([guide, guide], -1)[..., 0]):
            for bank in (filters, filters.permute(0, 1, 4, 5, 3, 2).contiguous().permute(0, 1, 5, 4, 2, 3)):
                for added in (bias, torch.stack([bias, bias], 1)[:, 0]):
                    found = region_conv2d(maps, bank, scores, added, padding=1)
                    assert_near(found, expected, "output", tolerance=2e-6)


def test_other_numbers_of_threads_and_groups_that_are_no_int() -> None:
    tensors = leaves()
    before = torch.get_num_threads()
    try:
        outputs = []
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            outputs.append(region_conv2d(*tensors, padding=1))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(outputs[0], other) for other in outputs[1:])
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        region_conv2d(*tensors, padding=1, groups=1.0)  # type: ignore[arg-type]
