"""Whole layers in one call of the GPU kernels, against their stages in the reference."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from drconv.kernels import BACKENDS, LayerProblem
from drconv.kernels.triton import launch
from drconv.layers import DRConv2d, fused_inference
from tests.kernels.test_choice import PROBLEM
from tests.tolerances import assert_near

LAYERS: dict[str, dict[str, Any]] = {
    "pooled": {"in_channels": 19, "out_channels": 37, "kernel_size": 1, "num_regions": 3},
    "pooled-3x3": {"in_channels": 4, "out_channels": 2, "kernel_size": 3, "padding": 1, "groups": 2, "num_regions": 2},
    "basis": {"in_channels": 5, "out_channels": 3, "kernel_size": 1, "filter_generator": "basis"},
    "basis-2x1-strided": {
        "in_channels": 3, "out_channels": 4, "kernel_size": (2, 1), "stride": (2, 1), "filter_generator": "basis",
        "num_regions": 9, "bias": False, "guide_bias": False,
    },
}  # fmt: skip


def layer_of(name: str, dtype: torch.dtype = torch.float32, **more: Any) -> DRConv2d:
    layer = DRConv2d(**LAYERS[name], **more).eval()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer.to(dtype)


def both(layer: DRConv2d, device: torch.device, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return what one call gives, what the stages of the reference give, and how many kernels the call launched."""
    launches = 0
    start = launch.start

    def counted(*arguments: Any) -> None:
        nonlocal launches
        launches += 1
        start(*arguments)

    with torch.no_grad(), pytest.MonkeyPatch.context() as patch, fused_inference(False):
        layer.backend = "reference"
        expected = layer.to("cpu")(*inputs)
        patch.setattr(launch, "start", counted)
        layer.backend = "triton"
        layer.to(device)
        with fused_inference(True):
            actual = layer(*(t.to(device) for t in inputs)).cpu()
    return actual, expected, launches


@pytest.mark.usefixtures("poisoned_empty")
@pytest.mark.parametrize("activation", [None, "relu6"])
@pytest.mark.parametrize("name", LAYERS)
def test_agrees_with_the_stages_in_four_launches(name: str, activation: str | None, device: torch.device) -> None:
    layer = layer_of(name)
    layer.activation = activation
    x = torch.randn(2, layer.in_channels, 5, 3)
    if activation is None:
        x = x.contiguous(memory_format=torch.channels_last)
    actual, expected, launches = both(layer, device, x)
    assert launches == 4
    assert_near(actual, expected, "output")
    assert actual.is_contiguous(memory_format=torch.channels_last) == (activation is None)


@pytest.mark.parametrize("activation", ["relu", "hardswish"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_in_half_precision(activation: str, dtype: torch.dtype, device: torch.device) -> None:
    layer = layer_of("basis", dtype)
    layer.activation = activation
    actual, expected, launches = both(layer, device, torch.randn(2, 5, 3, 4).to(dtype))
    assert launches == 4
    assert_near(actual, expected, "output")


@pytest.mark.parametrize("scores", ["ties", "nan"])
def test_guided_feature_that_is_given(scores: str, device: torch.device) -> None:
    layer = layer_of("pooled", own_guide=False)
    guide = torch.randn(2, 3, 4, 3).round()
    if scores == "nan":
        guide[0, 1:, 2] = torch.nan
        guide[1, :, 0] = -torch.inf
    actual, expected, _ = both(layer, device, torch.randn(2, 19, 4, 3), guide)
    assert_near(actual, expected, "output")


def test_the_layers_own_guide_with_nan_and_ties(device: torch.device) -> None:
    layer = layer_of("basis")
    x = torch.randn(2, 5, 3, 4)
    x[0, 2, 1, 1] = torch.nan  # every score there is NaN: the first region
    with torch.no_grad():
        layer.guide.weight[4:] = layer.guide.weight[:4]  # the best is tied: the lower region
        layer.guide.bias[4:] = layer.guide.bias[:4]
    actual, expected, launches = both(layer, device, x)
    assert launches == 4
    assert torch.equal(actual.isnan(), expected.isnan())
    assert_near(actual[1], expected[1], "output")


def test_parameters_are_read_anew(device: torch.device) -> None:
    layer, x = layer_of("basis").to(device), torch.randn(1, 5, 3, 3, device=device)
    layer.backend = "triton"
    with torch.no_grad():
        before = layer(x)
        layer.filter_generator.bases.mul_(2)
        torch.testing.assert_close(layer(x) - layer.bias.view(-1, 1, 1), 2 * (before - layer.bias.view(-1, 1, 1)))
        layer.filter_generator.bases.data = layer.filter_generator.bases.data.double()
        with pytest.raises(RuntimeError):
            layer(x)  # in stages, whose message this is


def test_objections() -> None:
    problem = LayerProblem(PROBLEM, "pooled", 2, None, None)
    objection = BACKENDS["triton"].why_not_infer
    assert objection(problem) is None
    assert "not mixed of anything" in objection(replace(problem, generator="learned"))
    assert "depthwise" in objection(replace(problem, conv=replace(PROBLEM, groups=4)))
    assert "at most 1024 positions, got 1089" in objection(
        replace(problem, conv=replace(PROBLEM, output_size=(33, 33)))
    )
    assert "empty" in objection(replace(problem, conv=replace(PROBLEM, batch=0)))
