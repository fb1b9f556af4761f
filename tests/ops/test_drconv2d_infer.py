"""The operator of a whole layer: its shapes, its count, and what it refuses."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from drconv.analysis import count_flops
from drconv.errors import ArgumentError, BackendError
from drconv.kernels import BACKENDS, LayerParameters
from drconv.layers import FILTER_GENERATORS, DRConv2d, fused_inference
from drconv.layers.fused import _Structure
from drconv.ops import drconv2d_infer, drconv2d_infer_madds
from tests.kernels.test_choice import PROBLEM
from tests.tolerances import assert_near

OP = torch.ops.drconv.drconv2d_infer.default
GENERATORS = list(FILTER_GENERATORS)


def made(generator: str, kernel: int = 3) -> tuple[DRConv2d, torch.Tensor, LayerParameters, dict[str, Any]]:
    """Return a layer, an input, and both as the operator takes them."""
    reason = BACKENDS["native"].why_not(PROBLEM)
    if reason is not None:
        pytest.skip(reason)
    padding = kernel // 2
    layer = DRConv2d(6, 10, kernel, padding=padding, groups=2, num_regions=3, filter_generator=generator)
    layer.eval().requires_grad_(False)
    parameters = _Structure(layer).parameters
    assert parameters is not None
    pair = (padding, padding)
    settings = {
        "filter_generator": generator, "num_regions": 3, "out_channels": 10, "kernel_size": (kernel, kernel),
        "stride": (1, 1), "padding": pair, "dilation": (1, 1), "groups": 2, "guide_stride": (1, 1),
        "guide_padding": pair, "guide_dilation": (1, 1),
    }  # fmt: skip
    return layer, torch.randn(2, 6, 7, 5), parameters, settings


@pytest.mark.parametrize("generator", GENERATORS)
def test_equals_the_layer(generator: str) -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        layer, x, parameters, settings = made(generator)
        x = x.contiguous(memory_format=layout)
        with fused_inference(False):
            expected = layer(x)
        actual = drconv2d_infer(x, None, parameters, **settings)
        assert_near(actual, expected, "output")
        assert actual.stride() == expected.stride()
        assert layer.guide is not None
        scores = layer.guide(x)
        bare = LayerParameters(None, None, *list(vars(parameters).values())[2:])
        assert_near(drconv2d_infer(x, scores, bare, **settings, activation="relu"), expected.relu(), "given scores")


@pytest.mark.parametrize("generator", GENERATORS)
def test_opcheck(generator: str) -> None:
    _, x, parameters, settings = made(generator)
    for layout in (torch.contiguous_format, torch.channels_last):
        arguments = (x.contiguous(memory_format=layout), None, *vars(parameters).values(), *settings.values())
        torch.library.opcheck(OP, (*arguments, "relu6", None))


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("generator", GENERATORS)
def test_counts_what_the_stages_count(generator: str, kernel: int) -> None:
    layer, x, parameters, settings = made(generator, kernel)
    with FlopCounterMode(display=False) as counter:
        drconv2d_infer(x, None, parameters, **settings)
    stages = count_flops(layer, (6, 7, 5))
    assert counter.get_total_flops() == 2 * 2 * stages.madds
    # By hand: guide, routing, mixing, convolution.
    taps, bins = kernel * kernel, {"pooled": kernel * kernel, "basis": 1, "learned": 0}[generator]
    mixed = {"pooled": 3, "basis": 8, "learned": 0}[generator]
    by_hand = 35 * 3 * 6 * taps + bins * 3 * mixed * 6 + 3 * mixed * 10 * 3 * taps + 35 * 10 * 3 * taps
    assert stages.madds == by_hand
    shapes = [None if t is None else t.shape for t in (parameters.guide_weight, parameters.routing_weight)]
    made_shape = parameters.made_weight.shape
    args = (generator, 3, (kernel, kernel), 2)
    assert drconv2d_infer_madds((1, 6, 7, 5), (1, 10, 7, 5), *shapes, made_shape, *args) == by_hand


def test_refusals() -> None:
    _, x, parameters, settings = made("pooled")
    with pytest.raises(BackendError, match="'eager' cannot run this layer in one call: it has no call for a whole"):
        drconv2d_infer(x, None, parameters, **settings, backend="eager")
    with pytest.raises(ArgumentError, match="made_weight must have"):
        drconv2d_infer(x, None, parameters, **{**settings, "out_channels": 12})
    with pytest.raises(ArgumentError, match="either a guided_feature or a guide_weight"):
        drconv2d_infer(x, torch.zeros(2, 3, 7, 5), parameters, **settings)
    with pytest.raises(ArgumentError, match="one output size"):
        drconv2d_infer(x, None, parameters, **{**settings, "guide_padding": (0, 0)})
    with pytest.raises(ArgumentError, match="activation must be one of"):
        drconv2d_infer(x, None, parameters, **settings, activation="gelu")
    with pytest.raises(ArgumentError, match="divisible by groups"):
        drconv2d_infer(x[:, :5], None, parameters, **settings)
