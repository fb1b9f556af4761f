"""`DynamicConv2d` against its formula, and as a drop-in for `nn.Conv2d`."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import drconv
from drconv.analysis import count_flops
from drconv.errors import ArgumentError, UnknownNameError
from drconv.layers import DynamicConv2d, TemperatureSchedule, plain_twin, set_temperature
from tests.tolerances import assert_near


def by_formula(layer: DynamicConv2d, x: Tensor) -> Tensor:
    """W = sum_k pi_k W_k, b = sum_k pi_k b_k, pi = softmax(FC(ReLU(FC(GAP(x)))) / temperature), sample by sample."""
    att, experts = layer.attention, layer.experts
    outputs = []
    for sample in x:
        hidden = F.relu(F.linear(sample.mean((1, 2)), att.reduce.weight, att.reduce.bias))
        pi = torch.softmax(F.linear(hidden, att.expand.weight, att.expand.bias) / att.temperature, 0)
        weights = experts.weight.view(layer.num_experts, *experts.filter_shape)
        weight = sum(pi[k] * weights[k] for k in range(layer.num_experts))
        bias = None if experts.bias is None else sum(pi[k] * experts.bias[k] for k in range(layer.num_experts))
        settings = (layer.stride, layer.padding, layer.dilation, layer.groups)
        outputs.append(F.conv2d(sample[None], weight, bias, *settings))
    return torch.cat(outputs)


SETTINGS = [
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": (3, 2), "padding": (2, 1), "dilation": (2, 1), "bias": False},
    {"kernel_size": 3, "padding": "same", "groups": 3},
    {"kernel_size": 5, "padding": 2, "groups": 6, "num_experts": 7, "reduction": 2, "temperature": 1.5},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("backend", [None, "naive", "reference"])
def test_it_is_its_formula_with_gradients(settings: dict[str, object], backend: str | None) -> None:
    layer = DynamicConv2d(6, 12, **settings, backend=backend).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(3, 6, 9, 7, dtype=torch.float64, requires_grad=True)
    actual, expected = layer(x), by_formula(layer, x)
    assert_near(actual, expected, "output")
    leaves = [x, *layer.parameters()]
    grads = [torch.autograd.grad(y.sin().sum(), leaves) for y in (actual, expected)]
    for (name, _), a, e in zip([("input", x), *layer.named_parameters()], *grads, strict=True):
        assert_near(a, e, name)
    assert_near(layer(x[0]), expected[0], "unbatched output")


@pytest.mark.parametrize("padding_mode", ["reflect", "replicate", "circular"])
def test_padding_modes(padding_mode: str) -> None:
    layer = DynamicConv2d(4, 4, 3, padding=1, padding_mode=padding_mode, num_experts=1)
    conv = nn.Conv2d(4, 4, 3, padding=1, padding_mode=padding_mode)
    conv.weight.data, conv.bias.data = layer.experts.weight.data.view(4, 4, 3, 3), layer.experts.bias.data[0]
    x = torch.randn(2, 4, 6, 5)
    assert_near(layer(x), conv(x), "output")


def test_small_inputs_in_train_mode() -> None:
    layer = DynamicConv2d(3, 4, 1).train()
    assert layer.attention.reduce.out_features == 1  # max(1, 3 // 4)
    assert layer(torch.randn(1, 3, 1, 1)).shape == (1, 4, 1, 1)
    assert layer(torch.randn(0, 3, 5, 5)).shape == (0, 4, 5, 5)


def test_weights_of_experts_sum_to_one_and_flatten_with_temperature() -> None:
    layer = DynamicConv2d(8, 8, 1)
    nn.init.normal_(layer.attention.expand.weight, std=5)
    x = torch.randn(4, 8, 5, 5)
    spread = {}
    for temperature in (30.0, 1.0):
        set_temperature(layer, temperature)
        weights = layer.attention(x)
        torch.testing.assert_close(weights.sum(1), torch.ones(4))
        spread[temperature] = float(weights.std(1).mean())
    assert spread[30.0] < spread[1.0]


def test_temperature_is_in_the_state_dict() -> None:
    layer = DynamicConv2d(8, 8, 1)
    assert float(layer.state_dict()["attention.temperature"]) == 30
    set_temperature(layer, 4)
    fresh = DynamicConv2d(8, 8, 1)
    fresh.load_state_dict(layer.state_dict())
    assert float(fresh.attention.temperature) == 4
    assert float(deepcopy(layer).attention.temperature) == 4


def test_schedule_falls_linearly_and_stays() -> None:
    model = nn.Sequential(DynamicConv2d(4, 4, 1), nn.ReLU(), DynamicConv2d(4, 4, 1))
    schedule = TemperatureSchedule(model)
    seen = [float(model[2].attention.temperature)]
    seen += [schedule.step() for _ in range(12)]
    assert seen == pytest.approx([30, 27.1, 24.2, 21.3, 18.4, 15.5, 12.6, 9.7, 6.8, 3.9, 1, 1, 1])
    assert float(model[0].attention.temperature) == 1


def test_schedule_goes_on_after_a_reload() -> None:
    model = DynamicConv2d(4, 4, 1)
    schedule = TemperatureSchedule(model, start=8, end=2, epochs=3)
    schedule.step()
    other = DynamicConv2d(4, 4, 1)
    resumed = TemperatureSchedule(other)
    resumed.load_state_dict(schedule.state_dict())
    assert float(other.attention.temperature) == 6
    assert resumed.step() == schedule.step() == 4


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf")])
def test_bad_temperatures(temperature: float) -> None:
    with pytest.raises(ArgumentError, match="temperature must be a positive number"):
        DynamicConv2d(4, 4, 1, temperature=temperature)
    with pytest.raises(ArgumentError, match="temperature must be a positive number"):
        TemperatureSchedule(DynamicConv2d(4, 4, 1), end=temperature)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_experts": 0}, "num_experts must be an integer of at least 1"),
        ({"reduction": 0}, "reduction must be an integer of at least 1"),
        ({"groups": 4}, "in_channels must be divisible by groups"),
        ({"padding": "same", "stride": 2}, "padding='same' needs stride 1"),
    ],
    ids=str,
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        DynamicConv2d(**{"in_channels": 6, "out_channels": 6, "kernel_size": 3} | arguments)


def test_bad_inputs() -> None:
    layer = DynamicConv2d(4, 6, 3)
    with pytest.raises(ArgumentError, match=r"input must be \[B, 4, H, W\]"):
        layer(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ArgumentError, match="the kernel must fit"):
        layer(torch.zeros(1, 4, 2, 8))
    with pytest.raises(UnknownNameError, match="did you mean eager"):
        DynamicConv2d(4, 4, 1, backend="eagre")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_channels_last_and_dtypes(dtype: torch.dtype) -> None:
    layer = DynamicConv2d(8, 8, 3, padding=1).to(dtype)
    x = torch.randn(2, 8, 9, 9, dtype=dtype)
    expected = layer(x)
    output = layer.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert_near(output, expected, "output")
    output.sum().backward()
    assert all(p.grad.dtype == dtype for p in layer.parameters())


def test_autocast() -> None:
    layer = DynamicConv2d(8, 8, 3, padding=1)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(torch.randn(2, 8, 9, 9))
    output.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.slow
def test_compiles_whole_and_for_another_batch_size() -> None:
    layer = nn.Sequential(DynamicConv2d(3, 6, 3, padding=1), nn.ReLU(), DynamicConv2d(6, 4, 1))
    compiled = torch.compile(layer, fullgraph=True, dynamic=True)
    for batch in (2, 5, 1):
        x = torch.randn(batch, 3, 8, 8)
        expected = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
        actual = torch.autograd.grad(compiled(x).square().sum(), list(layer.parameters()))
        for a, e in zip(actual, expected, strict=True):
            torch.testing.assert_close(a, e, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_traced_and_exported_programs_take_another_batch_size() -> None:
    layer = DynamicConv2d(3, 6, 3, 2, 1).eval()
    example = torch.randn(2, 3, 8, 8)
    program = torch.export.export(layer, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    traced = torch.jit.trace(layer, example)
    for batch in (1, 3):
        x = torch.randn(batch, 3, 8, 8)
        assert_near(program(x), layer(x), f"exported, batch {batch}")
        assert_near(traced(x), layer(x), f"traced, batch {batch}")


def test_counts_are_those_of_the_formulas() -> None:
    c, o, k, experts, side = 16, 24, 3, 4, 10
    (counted,) = count_flops(DynamicConv2d(c, o, k, padding=1), (c, side, side)).layers
    hidden = c // 4
    weights = o * c * k * k
    assert {s.stage: (s.madds, s.params) for s in counted.stages} == {
        "pool": (0, 0),
        "attention": (c * hidden + hidden * experts, c * hidden + hidden + hidden * experts + experts),
        "mixing": (experts * weights + experts * o, experts * weights + experts * o),
        "convolution": (side * side * weights, 0),
    }


def test_the_plain_twin_has_conv2d() -> None:
    model = nn.Sequential(DynamicConv2d(4, 6, 3, 2, 1, groups=2, bias=False), DynamicConv2d(6, 4, 1))
    twin = plain_twin(model)
    assert [type(m).__mro__[1] for m in twin] == [nn.Conv2d, nn.Conv2d]
    assert twin[0].bias is None
    assert twin[1].bias is not None
    x = torch.randn(2, 4, 8, 8)
    assert twin(x).shape == model(x).shape


def test_set_backend_reaches_it() -> None:
    layer = DynamicConv2d(4, 4, 1)
    drconv.set_backend(nn.Sequential(layer), "reference")
    assert layer.backend == "reference"


def test_a_schedule_does_not_start_before_its_first_epoch() -> None:
    with pytest.raises(ArgumentError, match="epoch must be 0 or more, got epoch=-1"):
        TemperatureSchedule(DynamicConv2d(3, 3, 1), epoch=-1)
