"""A `DRConv2d` in one call: the same results as in stages, taken where nobody could tell the difference."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from threading import Thread
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import drconv.layers.fused as module
from drconv.analysis import count_flops, record_regions
from drconv.errors import ArgumentError
from drconv.kernels import BACKENDS
from drconv.kernels.native import packed
from drconv.layers import FILTER_GENERATORS, DRConv2d, GuideConv2d, PooledFilterGenerator, fused_inference
from tests.kernels.test_choice import PROBLEM
from tests.tolerances import assert_near

GENERATORS = list(FILTER_GENERATORS)
SHAPES: dict[str, dict[str, Any]] = {
    "odd 1x1": {"in_channels": 13, "out_channels": 17, "kernel_size": 1, "size": (5, 5)},
    "deep 1x1": {"in_channels": 290, "out_channels": 9, "kernel_size": 1, "size": (4, 3)},
    "wide 1x1": {"in_channels": 8, "out_channels": 150, "kernel_size": 1, "size": (7, 6)},
    "strided 1x1": {"in_channels": 6, "out_channels": 11, "kernel_size": 1, "stride": (2, 3), "size": (9, 8)},
    "grouped 1x1": {"in_channels": 6, "out_channels": 9, "kernel_size": 1, "groups": 3, "size": (6, 7)},
    "3x3": {"in_channels": 5, "out_channels": 18, "kernel_size": 3, "padding": 1, "size": (7, 6)},
    "3x2 strided": {
        "in_channels": 5, "out_channels": 8, "kernel_size": (3, 2), "stride": (2, 1), "dilation": (1, 2), "size": (9, 7)
    },
    "grouped 3x3": {"in_channels": 6, "out_channels": 10, "kernel_size": 3, "padding": 2, "groups": 2, "size": (5, 6)},
    "depthwise": {"in_channels": 20, "out_channels": 20, "kernel_size": 3, "padding": 1, "groups": 20, "size": (6, 9)},
    "same": {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "padding": "same", "size": (6, 5)},
}  # fmt: skip


def made(shape: str = "odd 1x1", batch: int = 2, **keywords: Any) -> tuple[DRConv2d, Tensor]:
    """Return a layer in eval mode, with a bias that shows, and an input for it."""
    arguments = {**SHAPES[shape], **keywords}
    size = arguments.pop("size")
    layer = DRConv2d(**arguments).eval()
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    for parameter in layer.filter_generator.parameters():
        # Small initial values would hide what the routing does.
        nn.init.normal_(parameter, std=0.3)
    return layer, torch.randn(batch, arguments["in_channels"], *size)


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list that tells of every forward pass whether it was one call."""
    reason = BACKENDS["native"].why_not(PROBLEM)
    if reason is not None:
        pytest.skip(reason)
    taken: list[bool] = []
    run = module.FusedCalls.run

    def noted(*arguments: Any) -> Tensor | None:
        found = run(*arguments)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(module.FusedCalls, "run", noted)
    return taken


def agree(layer: DRConv2d, fused: list[bool], *inputs: Tensor) -> None:
    with torch.no_grad():
        fused.clear()
        actual = layer(*inputs)
        assert fused[-1], "not in one call"
        with fused_inference(False):
            expected = layer(*inputs)
        assert not fused[-1]
    assert_near(actual, expected, "output")
    assert actual.stride() == expected.stride()


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"])
@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("shape", SHAPES)
def test_same_as_in_stages(shape: str, generator: str, layout: torch.memory_format, fused: list[bool]) -> None:
    for count, batch, regions in ((1, 1, 8), (2, 1, 5), (2, 3, 8), (1, 9, 2), (2, 2, 17), (2, 2, 1)):
        layer, x = made(shape, batch, filter_generator=generator, num_regions=regions)
        with threads(count):
            agree(layer, fused, x.contiguous(memory_format=layout))


@pytest.mark.parametrize("activation", [None, "relu", "relu6", "hardswish"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", ["deep 1x1", "3x3", "depthwise"])
def test_bias_and_activation(shape: str, bias: bool, activation: str | None, fused: list[bool]) -> None:
    layer, x = made(shape, bias=bias)
    layer.activation = activation
    for layout in (torch.contiguous_format, torch.channels_last):
        agree(layer, fused, 3 * x.contiguous(memory_format=layout))


@pytest.mark.parametrize("shape", ["odd 1x1", "3x3"])
def test_given_guided_feature(shape: str, fused: list[bool]) -> None:
    layer, x = made(shape, own_guide=False, num_regions=5)
    with torch.no_grad():
        size = layer(x, torch.zeros(2, 5, 3, 3)).shape[2:]
    assert fused[-1], "a smaller one is resized first"
    scores = torch.randn(2, 5, *size)
    scores[:, 1] = -9.0  # a region that does not occur
    scores[0, 3, 1, 2:] = float("nan")
    scores[0, 4, 1, 2:] = float("nan")
    scores[1] = 0.0  # all equal: the lowest
    for order in (torch.contiguous_format, torch.channels_last):
        agree(layer, fused, x, scores.contiguous(memory_format=order))
    agree(layer, fused, x, torch.randn(2, 5, 2, 2))
    with torch.no_grad(), pytest.raises(ArgumentError, match="must be given a guided_feature"):
        layer(x)


def test_nan_in_the_input_is_where_it_is_in_stages(fused: list[bool]) -> None:
    for shape in ("odd 1x1", "3x3"):
        layer, x = made(shape, filter_generator="learned")
        x[0, 2, 1, 3] = float("nan")
        x[1, 0, 0, 0] = float("inf")
        agree(layer, fused, x)


def test_regions_that_do_not_occur(fused: list[bool]) -> None:
    for generator in GENERATORS:
        layer, x = made("wide 1x1", 9, filter_generator=generator)
        assert layer.guide is not None
        with torch.no_grad():
            layer.guide.bias[3:] -= 100
            layer.guide.weight[:3] = 0
            layer.guide.weight[0, 0] = layer.guide.weight[1, 1] = 1
        agree(layer, fused, x)


def test_a_guide_of_another_geometry(fused: list[bool]) -> None:
    layer, x = made("3x3")
    for guide in (GuideConv2d(5, 8), GuideConv2d(5, 8, 5, padding=2, bias=False), GuideConv2d(5, 8, 3, padding="same")):
        layer.guide = guide
        agree(layer, fused, x)
        agree(layer.to(memory_format=torch.channels_last), fused, x.contiguous(memory_format=torch.channels_last))


def test_inputs_with_gaps_and_without_a_batch(fused: list[bool]) -> None:
    layer, x = made()
    wide = torch.randn(2, 5, 5, 20)[..., 3:16].permute(0, 3, 1, 2)
    agree(layer, fused, wide)
    agree(layer, fused, torch.randn(2, 20, 5, 5)[:, 3:16])
    agree(layer, fused, x[0])
    with torch.no_grad():
        assert layer(x[:0]).shape == (0, 17, 5, 5)
        # Rows with gaps are for the stages, which copy them.
        assert_near(layer(torch.randn(2, 13, 5, 9)[..., :5]).detach(), layer(x), "shape only", tolerance=1e9)


@pytest.mark.parametrize("shape", SHAPES)
def test_layout_is_that_of_conv2d(shape: str, fused: list[bool]) -> None:
    for generator in ("pooled", "learned"):
        layer, x = made(shape, 3, filter_generator=generator, num_regions=5)
        layer.to(memory_format=torch.channels_last)
        conv = nn.Conv2d(**{name: value for name, value in SHAPES[shape].items() if name != "size"})
        conv.to(memory_format=torch.channels_last)
        for input in (x, x.contiguous(memory_format=torch.channels_last)):
            agree(layer, fused, input)
            with torch.no_grad():
                assert layer(input).stride() == conv(input).stride()
            assert layer(input).stride() == conv(input).stride()


def test_inference_mode_and_frozen_parameters(fused: list[bool]) -> None:
    layer, x = made()
    with torch.inference_mode():
        layer(x)
    assert fused == [True]
    layer(x)
    assert fused == [True, False]
    layer.requires_grad_(False)
    layer(x)
    layer(x.clone().requires_grad_())
    assert fused == [True, False, True, False]


@contextmanager
def hook(module: nn.Module, register: str) -> Iterator[None]:
    handle = getattr(module, register)(lambda *_: None)
    yield
    handle.remove()


@contextmanager
def global_hook() -> Iterator[None]:
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    yield
    handle.remove()


@contextmanager
def patched(layer: DRConv2d) -> Iterator[None]:
    assert layer.guide is not None
    layer.guide.forward = lambda x: F.conv2d(x, layer.guide.weight)  # type: ignore
    yield
    del layer.guide.forward


@contextmanager
def parametrized(layer: DRConv2d) -> Iterator[None]:
    parametrize.register_parametrization(layer.filter_generator.expand, "weight", nn.Identity())
    yield
    parametrize.remove_parametrizations(layer.filter_generator.expand, "weight")


@contextmanager
def pruned(layer: DRConv2d) -> Iterator[None]:
    prune.random_unstructured(layer.filter_generator.expand, "weight", 0.5)
    yield
    prune.remove(layer.filter_generator.expand, "weight")


class OtherGenerator(PooledFilterGenerator):
    """What a user might derive."""


@contextmanager
def derived(layer: DRConv2d) -> Iterator[None]:
    layer.filter_generator.__class__ = OtherGenerator
    yield
    layer.filter_generator.__class__ = PooledFilterGenerator


@contextmanager
def named(layer: DRConv2d) -> Iterator[None]:
    layer.backend = "reference"
    yield
    layer.backend = None


class Names(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return func(*args, **(kwargs or {}))


class FunctionNames(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return func(*args, **(kwargs or {}))


IN_STAGES: dict[str, Callable[[DRConv2d], Any]] = {
    "hook on the layer": lambda layer: hook(layer, "register_forward_hook"),
    "hook before the operator": lambda layer: hook(layer.region_conv, "register_forward_pre_hook"),
    "hook on a part of the generator": lambda layer: hook(layer.filter_generator.pool, "register_forward_hook"),
    "backward hook": lambda layer: hook(layer.filter_generator, "register_full_backward_hook"),
    "hook on all modules": lambda layer: global_hook(),
    "patched": patched,
    "parametrized": parametrized,
    "pruned": pruned,
    "derived": derived,
    "backend without one call": named,
    "dispatch mode": lambda layer: Names(),
    "function mode": lambda layer: FunctionNames(),
    "autocast": lambda layer: torch.autocast("cpu"),
    "profiler": lambda layer: torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]),
    "recording": record_regions,
    "switched off": lambda layer: fused_inference(False),
}


@pytest.mark.parametrize("why", IN_STAGES)
def test_whoever_looks_sees_the_stages(why: str, fused: list[bool]) -> None:
    layer, x = made()
    with torch.no_grad():
        layer(x)
        with IN_STAGES[why](layer):
            layer(x)
        layer(x)
    assert fused == [True, False, True]


def test_recordings_and_counts_are_those_of_the_stages(fused: list[bool]) -> None:
    layer, x = made()
    with torch.no_grad(), record_regions(layer) as recording:
        output = layer(x)
    assert recording.layers[0].guided_mask.shape == (2, 5, 5)
    with torch.no_grad():
        assert_near(layer(x), output, "recorded output")
    with fused_inference(False):
        expected = count_flops(layer, (13, 5, 5))
    assert count_flops(layer, (13, 5, 5)).layers == expected.layers


def test_tracing_and_transforms_see_the_operator(fused: list[bool]) -> None:
    layer, x = made()
    layer.requires_grad_(False)
    expected = layer(x)
    assert fused == [True]
    assert_near(torch.jit.trace(layer, x)(x), expected, "traced")
    exported = torch.export.export(layer, (x,))
    assert "drconv.region_conv2d" in str(exported.graph)
    assert_near(exported.module()(x), expected, "exported")
    alone = torch.func.functional_call(layer, dict(layer.named_parameters()), (x,))
    assert_near(alone, expected, "functional call")
    mapped = torch.func.vmap(lambda one: one * 2)(x)
    assert mapped.shape == x.shape


@pytest.mark.slow
def test_compiled_code_sees_the_operator(fused: list[bool]) -> None:
    layer, x = made()
    with torch.no_grad():
        expected = layer(x)
        fused.clear()
        torch._dynamo.reset()
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        assert_near(compiled(x), expected, "compiled")
    assert fused == []


def test_other_dtypes_and_devices_go_in_stages(fused: list[bool]) -> None:
    layer, x = made()
    with torch.no_grad():
        layer(x)
        layer.double()(x.double())
        layer.to("meta")(x.double().to("meta"))
    assert fused == [True, False, False]


def halve(layer: DRConv2d) -> Tensor:
    weights = {"pooled": "expand.weight", "basis": "bases", "learned": "filters"}
    name = weights[next(n for n, kind in FILTER_GENERATORS.items() if type(layer.filter_generator) is kind)]
    return layer.filter_generator.get_parameter(name)


@torch.no_grad()
def in_place(layer: DRConv2d) -> None:
    halve(layer).mul_(0.5)


@torch.no_grad()
def unseen(layer: DRConv2d) -> None:
    halve(layer).data.mul_(0.5)
    for parameter in layer.parameters():
        if parameter is not halve(layer):
            parameter.data.add_(0.1)


@torch.no_grad()
def other_memory(layer: DRConv2d) -> None:
    for _ in range(2):
        halve(layer).data = halve(layer).data * 0.5


@torch.no_grad()
def loaded(layer: DRConv2d) -> None:
    layer.load_state_dict({name: value * 0.5 for name, value in layer.state_dict().items()})


@torch.no_grad()
def assigned(layer: DRConv2d) -> None:
    layer.load_state_dict({name: value * 0.5 for name, value in layer.state_dict().items()}, assign=True)


@torch.no_grad()
def there_and_back(layer: DRConv2d) -> None:
    layer.to(torch.bfloat16).to(torch.float32)


@torch.no_grad()
def other_bias(layer: DRConv2d) -> None:
    layer.bias = None if layer.bias is not None else nn.Parameter(torch.ones(layer.out_channels))


@torch.no_grad()
def other_generator(layer: DRConv2d) -> None:
    layer.filter_generator = deepcopy(layer.filter_generator)
    halve(layer).mul_(0.5)


@torch.enable_grad()
def trained(layer: DRConv2d) -> None:
    layer.train()
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    layer(torch.randn(2, layer.in_channels, 5, 5)).square().sum().backward()
    optimizer.step()
    layer.zero_grad()


CHANGES = [
    in_place, unseen, other_memory, loaded, assigned, there_and_back, other_bias, other_generator, trained
]  # fmt: skip


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_of_parameters_is_noticed(
    change: Callable[[DRConv2d], None], generator: str, fused: list[bool]
) -> None:
    layer, x = made(filter_generator=generator)
    with torch.no_grad():
        before = layer(x)
        change(layer)
        assert not torch.equal(before, layer(x))
    agree(layer, fused, x)
    with torch.no_grad():
        change(layer)
    agree(layer, fused, x)


def test_inference_tensors_as_parameters(fused: list[bool]) -> None:
    with torch.inference_mode():
        layer, x = made()
        before = layer(x)
        halve(layer).mul_(2)
        after = layer(x)
    assert fused == [False, False], "nobody could tell that they have changed"
    assert not torch.equal(before, after)


def test_changed_settings_are_noticed(fused: list[bool]) -> None:
    layer, x = made("3x3")
    agree(layer, fused, x)
    assert layer.guide is not None
    for conv in (layer.region_conv, layer.guide):
        conv.dilation = (2, 2)  # type: ignore[assignment]
        conv.padding = (2, 2)  # type: ignore[assignment]
    agree(layer, fused, x)
    layer.activation = "relu"
    agree(layer, fused, x)


def test_wrong_inputs_are_answered_as_before(fused: list[bool]) -> None:
    layer, x = made()
    for wrong in (torch.randn(2, 12, 5, 5), torch.randn(13), x[..., None]):
        with torch.no_grad(), pytest.raises(ArgumentError, match="input must be"):
            layer(wrong)
    layer, x = made("3x2 strided")
    with torch.no_grad(), pytest.raises(ArgumentError, match="the kernel must fit"):
        layer(x[:, :, :2])


def test_nothing_of_it_is_saved_or_copied(fused: list[bool]) -> None:
    layer, x = made()
    agree(layer, fused, x)
    names = set(layer.state_dict())
    assert all(name.startswith(("filter_generator.", "guide.", "bias")) for name in names)
    size = len(pickle.dumps(made()[0]))
    for copy in (deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert abs(len(pickle.dumps(copy)) - size) < 200
        agree(copy, fused, x)
        with torch.no_grad():
            halve(copy).mul_(0.5)
        agree(copy, fused, x)
    agree(layer, fused, x)


def test_memory_is_given_back(fused: list[bool]) -> None:
    layer, x = made()
    weight = halve(layer)
    state = layer.state_dict()
    changes: dict[str, tuple[Any, ...]] = {"train": (), "to": (torch.float32,), "load_state_dict": (state,)}
    for name, arguments in changes.items():
        agree(layer, fused, x)
        assert id(weight) in packed._entries
        getattr(layer, name)(*arguments)
        assert id(weight) not in packed._entries
        layer.eval()
    agree(layer, fused, x)
    number = id(weight)
    del layer, weight, state, changes, arguments
    assert number not in packed._entries, "when the parameter dies, without the garbage collector"


def test_one_layer_in_many_threads(fused: list[bool]) -> None:
    layer, x = made("wide 1x1", 3)
    inputs = [torch.randn(batch, *x.shape[1:]) for batch in (1, 2, 3, 4)]
    with torch.no_grad(), fused_inference(False):
        expected = [layer(input) for input in inputs]
    failures: list[str] = []

    def work(own: int) -> None:
        torch.set_num_threads(1)
        with torch.no_grad():
            for turn in range(20):
                which = (own + turn) % len(inputs)
                if own == 0 and turn % 4 == 0:
                    halve(layer).mul_(1)  # a new version, the same values
                try:
                    assert_near(layer(inputs[which]), expected[which], "output")
                except Exception as error:
                    failures.append(str(error))

    with threads(1):
        workers = [Thread(target=work, args=(own,)) for own in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert failures == []


class Padded(DRConv2d):
    def pad(self, input: Tensor) -> Tensor:
        return -input


def test_subclasses_are_asked(fused: list[bool]) -> None:
    layer = Padded(5, 6, 1).eval()
    x = torch.randn(2, 5, 4, 4)
    with torch.inference_mode():
        output = layer(x)
        with fused_inference(False):
            assert_near(output, layer(x), "output")
    assert fused[0] is False


@pytest.mark.parametrize("own_guide", [True, False])
def test_negative_views_are_read_as_such(own_guide: bool) -> None:
    """Imaginary parts of conjugates hold their values with the other sign; of 1x1 maps the kernels take any stride."""
    layer = DRConv2d(5, 6, 1, num_regions=3, own_guide=own_guide).eval()
    x = torch.randn(2, 5, 1, 1, dtype=torch.cfloat).conj().imag
    scores = () if own_guide else (torch.randn(2, 3, 1, 1, dtype=torch.cfloat).conj().imag,)
    with torch.inference_mode():
        assert_near(layer(x, *scores), layer(x.clone(), *(s.clone() for s in scores)), "input")
        if scores:
            assert_near(layer(x.clone(), *scores), layer(x.clone(), scores[0].clone()), "scores")


def test_guide_with_another_padding_mode_later(fused: list[bool]) -> None:
    layer, x = made("3x3", num_regions=4)
    with torch.inference_mode():
        layer(x)
        assert layer.guide is not None
        layer.guide.padding_mode = "circular"
        layer.guide._reversed_padding_repeated_twice = [1, 1, 1, 1]
        output = layer(x)
        with fused_inference(False):
            assert_near(output, layer(x), "output")
    assert fused[:2] == [True, False]


def test_maps_without_pixels_are_refused_as_in_stages() -> None:
    layer, _ = made("3x3", padding=2)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="zero batch"):
        layer(torch.randn(2, 5, 0, 7))
