"""Recording: what was used, and nothing left behind."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from drconv.analysis import record_regions, region_statistics
from drconv.errors import ModelError
from drconv.layers import DRConv2d
from drconv.layers.fused import FusedCalls
from drconv.models import create_model
from tests.tolerances import assert_near


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())


def test_records_masks_guides_and_filters_in_order() -> None:
    model = create_model("drconv_shufflenet_v2_x0_5_released")
    with record_regions(model) as recording:
        model(torch.randn(2, 3, 64, 64))
    names = [n for n, m in model.named_modules() if isinstance(m, DRConv2d)]
    assert [layer.name for layer in recording.layers] == names
    first, second = recording.layers[:2]
    assert first.guided_mask.shape == (2, 16, 16)
    assert first.guided_feature.shape == (2, 8, 16, 16)
    assert first.region_filters.shape == (2, 8, 24, 24, 1, 1)
    # The block shares one guide; its second layer saw every second row and column of it.
    assert torch.equal(second.guided_feature, first.guided_feature[:, :, ::2, ::2])
    assert torch.equal(second.guided_mask, first.guided_mask[:, ::2, ::2])


@pytest.mark.parametrize("name", ["drconv_shufflenet_v2_x0_5_released", "drconv_shufflenet_v2_x0_5"])
def test_layers_that_do_not_count_leave_their_grids_and_run_fused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = create_model(name)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), record_regions(model) as everything:
        model(image)
    chosen = [everything.layers[0].name, everything.layers[-1].name]
    fused: list[bool] = []
    run = FusedCalls.run

    def counted(*args: Any) -> Tensor | None:
        output = run(*args)
        fused.append(output is not None)
        return output

    monkeypatch.setattr(FusedCalls, "run", counted)
    with torch.no_grad():
        model.eval()(image)
        alone = sum(fused)
        fused.clear()
        with record_regions(model, chosen) as some:
            model(image)
    # Nothing is fused where there is no compiler.
    assert sum(fused) == (alone - len(chosen) if alone else 0)
    assert [layer.name for layer in some.layers] == chosen
    assert some.grids == everything.grids == {x.name: tuple(x.guided_feature.shape[2:]) for x in everything.layers}
    assert list(some.grids) == list(everything.grids)
    for layer in some.layers:
        assert_near(layer.guided_feature, everything[layer.name].guided_feature, "scores", tolerance=1e-3)
        assert_near(layer.region_filters, everything[layer.name].region_filters, "filters", tolerance=1e-3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["drconv_shufflenet_v2_x0_5_released", "drconv_shufflenet_v2_x0_5"])
def test_without_filters_layers_stay_fused_and_scores_are_the_same(
    name: str, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = create_model(name).to(memory_format=layout)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), record_regions(model) as staged:
        output = model(image)
    fused: list[bool] = []
    run = FusedCalls.run

    def counted(*args: Any, **keywords: Any) -> Tensor | None:
        found = run(*args, **keywords)
        fused.append(found is not None)
        return found

    monkeypatch.setattr(FusedCalls, "run", counted)
    with torch.no_grad():
        model.eval()(image)
        alone = sum(fused)
        fused.clear()
        with record_regions(model, filters=False) as recording:
            assert_near(model(image), output, "output", tolerance=1e-3)
    assert sum(fused) == alone
    assert recording.grids == staged.grids
    assert [layer.name for layer in recording.layers] == [layer.name for layer in staged.layers]
    for layer in recording.layers:
        assert layer.region_filters is None
        assert torch.equal(layer.guided_mask, layer.guided_feature.argmax(1))
        assert_near(layer.guided_feature, staged[layer.name].guided_feature, "scores", tolerance=1e-3)
    statistics = region_statistics(recording).layers[0]
    assert statistics.filter_norms == (None,) * 8
    assert statistics.filter_cosines == ((None,) * 8,) * 8
    assert statistics.redundant == ()


def test_without_filters_other_ways_to_run_are_recorded_too() -> None:
    class Own(DRConv2d):
        def forward(self, input: Tensor, guided_feature: Tensor | None = None) -> Tensor:
            assert self.guide is not None
            return self.region_conv(input, self.filter_generator(input), self.guide(input), self.bias, self.backend)

    seen = []
    hooked = DRConv2d(4, 4, 1)
    assert hooked.guide is not None
    hooked.guide.register_forward_hook(lambda *_: seen.append(1))
    model = nn.Sequential(Own(3, 4, 1), hooked, DRConv2d(4, 4, 1))
    with record_regions(model, filters=False) as recording:
        model(torch.rand(1, 3, 5, 4))  # with gradients
    assert [(layer.name, layer.region_filters) for layer in recording.layers] == [("0", None), ("1", None), ("2", None)]
    # The guide ran once, whoever looked.
    assert len(seen) == 1


def test_runs_in_eval_mode_and_leaves_no_trace() -> None:
    model = create_model("drconv_shufflenet_v2_x0_5")
    model.stage2.eval()
    modes = [m.training for m in model.modules()]
    with record_regions(model):
        assert not any(m.training for m in model.modules())
        assert hooks(model) == 16
    assert modes == [m.training for m in model.modules()]
    assert hooks(model) == 0


def test_cleans_up_when_the_model_raises() -> None:
    model = create_model("drconv_shufflenet_v2_x0_5")
    with pytest.raises(RuntimeError), record_regions(model):
        model(torch.randn(1, 4, 32, 32))
    assert hooks(model) == 0
    assert all(m.training for m in model.modules())


def test_two_calls_of_one_layer_are_two_entries() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = DRConv2d(3, 3, 1, num_regions=2)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.conv(x))

    with record_regions(Twice()) as recording:
        x = torch.randn(1, 3, 4, 4)
        Twice()(x)
    assert recording.layers == []
    model = Twice()
    with record_regions(model) as recording:
        model(x)
    assert [layer.name for layer in recording.layers] == ["conv", "conv#2"]
    assert torch.equal(recording["conv"].guided_mask, model.conv.guide(x).argmax(1))


def test_a_single_layer_can_be_recorded() -> None:
    layer = DRConv2d(3, 4, 1)
    with record_regions(layer) as recording:
        layer(torch.randn(1, 3, 4, 4))
    assert recording.layers[0].name == "DRConv2d"


def test_a_model_without_regions_is_refused() -> None:
    with pytest.raises(ModelError, match="Conv2d has no layer with regions"), record_regions(nn.Conv2d(3, 3, 1)):
        pass


def test_shared_filters_are_recorded_as_they_were() -> None:
    layer = DRConv2d(3, 4, 1, filter_generator="learned")
    with record_regions(layer) as recording:
        layer(torch.randn(1, 3, 4, 4))
    before = layer.filter_generator.filters.detach().clone()
    with torch.no_grad():
        layer.filter_generator.filters.zero_()
    assert torch.equal(recording.layers[0].region_filters.flatten(2), before)


@pytest.mark.parametrize("how", ["function", "method"])
def test_a_compiled_model_is_refused_because_it_may_call_no_hooks(how: str) -> None:
    model = nn.Sequential(DRConv2d(3, 4, 1))
    compiled = torch.compile(model, backend="eager") if how == "function" else model
    if how == "method":
        model.compile(backend="eager")
    with pytest.raises(ModelError, match="is compiled"), record_regions(compiled):
        pass
