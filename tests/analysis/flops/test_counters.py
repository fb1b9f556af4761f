"""Formulas for layers that are not ours, on two that operators tell the wrong story of."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drconv import count_flops, register_counter
from drconv.analysis.flops import cross_check
from drconv.analysis.flops.counters import REGISTERED, closed_form
from drconv.errors import ArgumentError
from drconv.layers import DRConv2d, FilterGenerator, FilterSpec


@pytest.fixture(autouse=True)
def _registered_here() -> Iterator[None]:
    kept = dict(REGISTERED)
    yield
    REGISTERED.clear()
    REGISTERED.update(kept)


class CondConv2d(nn.Module):
    """Conditionally parameterised convolution (NeurIPS 2019): sigmoid routing, mixed kernels, one grouped call."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, num_experts: int = 8) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.routing = nn.Linear(in_channels, num_experts)
        self.weight = nn.Parameter(torch.randn(num_experts, out_channels, in_channels, kernel_size, kernel_size))

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        mix = self.routing(x.mean((2, 3))).sigmoid()
        # Element by element, as many implementations have it: no counter sees multiply-adds here.
        kernels = (mix[:, :, None, None, None, None] * self.weight).sum(1)
        y = F.conv2d(x.reshape(1, -1, height, width), kernels.flatten(0, 1), padding="same", groups=batch)
        return y.view(batch, -1, height, width)


def condconv_madds(layer: CondConv2d, input: tuple[int, ...], output: tuple[int, ...]) -> dict[str, int]:
    batch, channels = input[:2]
    kernel = layer.weight[0].numel()
    return {
        "routing": batch * channels * layer.num_experts,
        "mixing": batch * layer.num_experts * kernel,
        "convolution": output[0] * output[2] * output[3] * kernel,
    }


@pytest.mark.parametrize("batch_size", [1, 2])
def test_condconv(batch_size: int) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), CondConv2d(8, 12, 3), nn.ReLU())
    kernel, routing = 12 * 8 * 9, 8 * 8
    before = count_flops(model, (3, 7, 5), batch_size=batch_size)
    assert before.madds == 35 * 24 + routing + 35 * kernel
    register_counter(CondConv2d, condconv_madds)
    after = count_flops(model, (3, 7, 5), batch_size=batch_size)
    assert after.madds == before.madds + 8 * kernel
    (layer,) = [x for x in after.layers if x.type == "CondConv2d"]
    assert {s.stage: s.madds for s in layer.stages} == {
        "routing": routing,
        "mixing": 8 * kernel,
        "convolution": 35 * kernel,
    }
    assert layer.params == sum(p.numel() for p in model[1].parameters())
    assert "1.routing" not in [x.name for x in after.layers]


class DenseDRConv(nn.Module):
    """All filters everywhere, then one of each: theory and what is executed differ M-fold."""

    def __init__(self, channels: int, regions: int) -> None:
        super().__init__()
        self.regions = regions
        self.guide = nn.Conv2d(channels, regions, 1)
        self.filters = nn.Conv2d(channels, regions * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.filters(x).unflatten(1, (self.regions, -1))
        mask = self.guide(x).argmax(1)[:, None, None].expand(-1, -1, *outputs.shape[2:])
        return outputs.gather(1, mask)[:, 0]


def test_theory_is_the_formula_and_executed_is_what_ran() -> None:
    class Special(DenseDRConv):
        pass

    @register_counter(DenseDRConv)
    def dense(layer: DenseDRConv, input: tuple[int, ...], output: tuple[int, ...]) -> int:
        return output[2] * output[3] * (layer.guide.weight.numel() + input[1] * output[1])

    model = nn.Sequential(Special(6, 4))
    report = count_flops(model, (6, 5, 5), backward=True)
    (layer,) = report.layers
    assert (layer.madds, layer.executed) == (25 * (24 + 36), 25 * (24 + 4 * 36))
    assert layer.stages == ()
    # The guide has no gradient here, and the image needs none.
    assert report.backward == 25 * 4 * 36
    check = cross_check(model, (6, 5, 5))
    assert [x.registered for x in check.layers] == [True]
    assert not check.disagreeing
    assert dense is closed_form(model[0])


def test_bad_counters() -> None:
    with pytest.raises(ArgumentError, match=r"layer must be a subclass of nn\.Module, got 3"):
        register_counter(3, condconv_madds)
    register_counter(nn.Tanh, lambda layer, input, output: {})
    with pytest.raises(ArgumentError, match="the counter of Tanh gave no stage for 0"):
        count_flops(nn.Sequential(nn.Tanh()), (3, 4, 4))
    with pytest.raises(ArgumentError, match="Tanh has a counter already"):
        register_counter(nn.Tanh, condconv_madds)
    register_counter(nn.ReLU, lambda layer, input, output: None)
    with pytest.raises(ArgumentError, match="the counter of ReLU gave None"):
        count_flops(nn.Sequential(nn.ReLU()), (3, 4, 4))


def test_a_generator_that_is_not_ours_has_no_closed_form() -> None:
    class Constant(FilterGenerator):
        def forward(self, input: Tensor) -> Tensor:
            return input.new_ones(self.spec.num_regions, *self.spec.filter_shape)

    layer = DRConv2d(3, 4, 1, num_regions=2)
    layer.filter_generator = Constant(FilterSpec(3, 4, (1, 1), 1, 2))
    (check,) = cross_check(layer, (3, 5, 5)).layers
    assert (check.closed_form, check.agrees) == (None, True)
    assert check.fvcore == check.dispatch == 25 * (3 * 2 + 3 * 4)


def test_a_warning_needs_a_stage_that_uses_the_filters() -> None:
    layer = nn.Sequential(CondConv2d(8, 12, 3))
    register_counter(CondConv2d, lambda layer, input, output: {"generator": 1000, "apply": 1})
    assert count_flops(layer, (8, 4, 4)).warnings == ()


def test_a_total_of_some_closed_forms_is_left_out() -> None:
    register_counter(CondConv2d, condconv_madds)
    check = cross_check(nn.Sequential(CondConv2d(3, 4, 1), nn.Conv2d(4, 2, 1)), (3, 4, 4))
    assert check.to_table().rows[-1][2] == sum(x.closed_form for x in check.layers)
    assert any(note.startswith("registered: ") for note in check.to_table().notes)
    unknown = cross_check(nn.Sequential(DenseDRConv(3, 2)), (3, 4, 4))
    assert unknown.to_table().rows[-1][2] is not None
