"""Counts against formulas written out by hand."""

import pytest
import torch
from torch import Tensor, nn

import drconv.ops.region_conv as region_conv
from drconv.analysis import count_flops
from drconv.analysis.flops import OP_FLOPS
from drconv.errors import ArgumentError, ModelError
from drconv.layers import DRConv2d
from drconv.models import create_model

C, O, K, M = 12, 20, 3, 4  # noqa: E741
P = 14 * 10


def layer_stages(**kwargs: object) -> dict[str, tuple[int, int]]:
    layer = DRConv2d(C, O, K, padding=1, num_regions=M, **kwargs)
    (counted,) = count_flops(layer, (C, 14, 10)).layers
    return {s.stage: (s.madds, s.params) for s in counted.stages}


def test_stages_of_the_pooled_generator() -> None:
    made = M * O * C
    assert layer_stages() == {
        "pool": (0, 0),
        "generator": (K * K * (C * M * M + M * made), C * M * M + M * M + M * made + made),
        "guide": (P * C * M * K * K, C * M * K * K + M),
        "convolution": (P * C * O * K * K, O),
    }


def test_stages_of_the_basis_generator() -> None:
    weights = C * O * K * K
    assert layer_stages(filter_generator="basis", guide_bias=False, bias=False) == {
        "pool": (0, 0),
        "generator": (C * 8 * M + 8 * M * weights, 8 * M * C + 8 * M + 8 * weights),
        "guide": (P * C * M * K * K, C * M * K * K),
        "convolution": (P * weights, 0),
    }


def test_stages_of_learned_filters() -> None:
    stages = layer_stages(filter_generator="learned", own_guide=True, groups=4)
    assert stages["generator"] == (0, M * O * C // 4 * K * K)
    assert stages["convolution"] == (P * O * C // 4 * K * K, O)


@pytest.mark.parametrize("name", ["drconv_shufflenet_v2_x0_5", "drconv_shufflenet_v2_x0_5_released"])
def test_mode_and_batch_size_do_not_matter(name: str) -> None:
    model = create_model(name)
    model.stage3.eval()
    modes = [m.training for m in model.modules()]
    first = count_flops(model, (3, 64, 96))
    assert modes == [m.training for m in model.modules()]
    running = model.conv1[1].running_mean.clone()
    for batch_size in (2, 3, 7):
        assert count_flops(model.eval(), (3, 64, 96), batch_size=batch_size) == first
        assert count_flops(model.train(), (3, 64, 96), batch_size=batch_size) == first
    assert torch.equal(running, model.conv1[1].running_mean), "counting must not train"


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "drconv_shufflenet_v2_x0_5_released"])
def test_layers_add_up_to_the_totals(name: str) -> None:
    report = count_flops(create_model(name), (3, 64, 64))
    for what in ("madds", "other", "params"):
        assert sum(getattr(layer, what) for layer in report.layers) == getattr(report, what)
        for layer in report.layers:
            if layer.stages:
                assert sum(getattr(stage, what) for stage in layer.stages) == getattr(layer, what)


def test_the_backend_does_not_change_the_count() -> None:
    counts = {
        b: count_flops(DRConv2d(4, 4, 3, padding=1, backend=b), (4, 8, 8)).madds for b in (None, "naive", "eager")
    }
    assert len(set(counts.values())) == 1


def test_what_is_not_counted_is_named() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.unused = nn.Linear(7, 7)

        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(self.conv(x)).cumsum(1).cumsum(2)

    report = count_flops(Odd(), (3, 5, 5))
    assert report.madds == 5 * 5 * 3 * 4
    assert report.uncounted == {"cumsum": 2, "sigmoid": 1}
    assert report.uncalled == ("unused",)
    notes = report.to_table().notes
    assert "Not counted: cumsum x2, sigmoid x1." in notes
    assert "Never called: unused." in notes


def test_functional_work_of_a_parent_is_its_own_row() -> None:
    class Parent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.child = nn.Conv2d(3, 3, 1)
            self.weight = nn.Parameter(torch.ones(2, 3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(self.child(x), self.weight)

    rows = {layer.name: (layer.madds, layer.params) for layer in count_flops(Parent(), (3, 4, 4)).layers}
    assert rows == {"": (16 * 6, 6), "child": (16 * 9, 12)}


def test_every_operator_of_ours_has_a_formula() -> None:
    ours = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith("drconv::")}
    assert "drconv::region_conv2d" in ours
    assert {name for name in ours if not name.endswith("_backward")} == set(OP_FLOPS)
    assert region_conv.region_conv2d_madds([2, M, O, C, K, K], [2, M, 14, 10]) == 2 * P * C * O * K * K


def test_a_model_that_fails_is_named_in_one_line() -> None:
    with pytest.raises(ModelError, match=r"Conv2d failed on an input of 1x5x8x8: .*expected .*3 channels"):
        count_flops(nn.Conv2d(3, 4, 1), (5, 8, 8))


def test_bad_sizes() -> None:
    with pytest.raises(ArgumentError, match="sizes must be at least 1"):
        count_flops(nn.Conv2d(3, 4, 1), (3, 0, 8))


def test_a_count_that_does_not_scale_with_the_batch_is_refused() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return x * self.linear(torch.ones(1, 3)).sum()

    with pytest.raises(ArgumentError, match="do not divide evenly"):
        count_flops(Fixed(), (3, 2, 2), batch_size=2)
