"""Whole layers drawn at random, in one call on every instruction set, against their stages in the reference."""

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drconv.kernels import BACKENDS
from drconv.layers import FILTER_GENERATORS, DRConv2d, fused_inference
from tests.kernels.native.instruction_set import use_isa
from tests.kernels.native.test_properties import ISAS, strided
from tests.kernels.test_choice import PROBLEM
from tests.tolerances import assert_near


@st.composite
def layers(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draw the arguments of a layer, and what its call is like."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 5]))
    pointwise = draw(st.booleans())
    kernel = 1 if pointwise else draw(st.integers(1, 3))
    arguments = {
        "in_channels": groups * draw(st.sampled_from([1, 3, 8, 19, 260 // groups])),
        "out_channels": groups * draw(st.sampled_from([1, 5, 8, 17, 49])),
        "kernel_size": kernel,
        "stride": draw(st.integers(1, 2)),
        "padding": 0 if pointwise else draw(st.integers(0, 2)),
        "groups": groups,
        "bias": draw(st.booleans()),
        "num_regions": draw(st.sampled_from([1, 2, 5, 8, 9, 17, 64])),
        "filter_generator": draw(st.sampled_from(list(FILTER_GENERATORS))),
        "guide_bias": draw(st.booleans()),
        "own_guide": draw(st.booleans()),
    }
    call = {
        "batch": draw(st.integers(1, 3)),
        "size": (draw(st.integers(3, 9)), draw(st.integers(3, 9))),
        "order": draw(st.sampled_from([(0, 1, 2, 3), (0, 2, 3, 1), (1, 0, 2, 3)])),
        "gap": draw(st.integers(0, 1)) * (kernel == 1),
        "channels_last": draw(st.booleans()),
        "activation": draw(st.sampled_from([None, "relu", "relu6", "hardswish"])),
        "threads": draw(st.integers(1, 2)),
        "seed": draw(st.integers(0, 2**31)),
    }
    return arguments, call


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(drawn=layers())
def test_agrees_with_the_stages(isa: str, drawn: tuple[dict[str, Any], dict[str, Any]]) -> None:
    reason = BACKENDS["native"].why_not(PROBLEM)
    if reason is not None:
        pytest.skip(reason)
    arguments, call = drawn
    torch.manual_seed(call["seed"])
    layer = DRConv2d(**arguments).eval()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    if call["channels_last"]:
        layer.to(memory_format=torch.channels_last)
    layer.activation = call["activation"]
    x = strided((call["batch"], arguments["in_channels"], *call["size"]), call["order"], call["gap"])
    inputs = [x]
    if not arguments["own_guide"]:
        inputs.append(torch.randn(call["batch"], arguments["num_regions"], *layer.output_size(*call["size"])))
    threads = torch.get_num_threads()
    with use_isa(isa), torch.no_grad():
        torch.set_num_threads(call["threads"])
        torch.use_deterministic_algorithms(True)  # fills new memory with NaN
        try:
            actual = layer(*inputs)
        finally:
            torch.use_deterministic_algorithms(False)
            torch.set_num_threads(threads)
        layer.backend = "reference"
        with fused_inference(False):
            expected = layer(*inputs)
    assert_near(actual, expected, "output")
    strides = [[s for s, n in zip(t.stride(), t.shape, strict=True) if n > 1] for t in (actual, expected)]
    assert strides[0] == strides[1]
