"""Counts against formulas written out by hand."""

import pytest
import torch
from torch import Tensor, nn

import drconv.ops.region_conv as region_conv
from drconv.analysis.flops import OP_FLOPS, FlopTree, count_flops
from drconv.errors import ArgumentError, ModelError
from drconv.layers import DRConv2d, DynamicConv2d
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
    assert sum(layer.params for layer in report.layers) == report.params
    for what in ("madds", "executed", "params"):
        for layer in report.layers:
            if layer.stages:
                assert sum(getattr(stage, what) for stage in layer.stages) == getattr(layer, what)


def test_the_backend_changes_what_is_executed_and_not_the_theory() -> None:
    layer = DRConv2d(64, 48, 3, padding=1, num_regions=M, filter_generator="learned")
    convolution = 64 * 48 * 9 * 28 * 28
    for backend in ("naive", "eager", "reference"):
        layer.backend = backend
        every_filter = convolution * M if backend != "eager" else convolution
        report = count_flops(layer, (64, 28, 28))
        assert {s.stage: (s.madds, s.executed) for s in report.layers[0].stages}["convolution"] == (
            convolution,
            every_filter,
        )
        assert count_flops(layer, (64, 28, 28), backend="naive").executed == report.madds + convolution * (M - 1)
        assert report.backend is None


def test_eager_computes_every_filter_where_sorting_would_not_pay() -> None:
    layer = DRConv2d(C, O, 1, num_regions=M, filter_generator="learned", backend="eager")
    report = count_flops(layer, (C, 14, 10))
    assert report.executed - report.madds == (M - 1) * C * O * P


def test_generated_weights_are_those_made_for_each_image() -> None:
    for generator, made in (("pooled", M * O * C * K * K), ("basis", M * O * C * K * K), ("learned", 0)):
        layer = DRConv2d(C, O, K, padding=1, num_regions=M, filter_generator=generator)
        for batch_size in (1, 2):
            assert count_flops(layer, (C, 14, 10), batch_size=batch_size).generated == made
    assert count_flops(DynamicConv2d(C, O, K), (C, 14, 10)).generated == O * C * K * K


def test_a_generator_that_outweighs_its_convolution_is_a_warning() -> None:
    layer = nn.Sequential(DRConv2d(256, 256, 1))  # m * m / P = 64 / 49 of the convolution, for the second product alone
    making, using = 64 * (256 + 256 * 256), 49 * 256 * 256
    (warning,) = count_flops(layer, (256, 7, 7)).warnings
    assert warning == f"making the filters costs more than using them in one layer: 0 (7x7 map, {making / using:.1f} x)"
    assert count_flops(layer, (256, 28, 28)).warnings == ()


@pytest.mark.parametrize("name", ["drconv_shufflenet_v2_x0_5", "drconv_shufflenet_v2_x0_5_released"])
def test_engines_agree_also_on_the_meta_device(name: str) -> None:
    traced = count_flops(create_model(name), (3, 64, 64))
    with torch.device("meta"):
        model = create_model(name)
    watched = count_flops(model, (3, 64, 64), engine="dispatch")
    assert [(x.name, x.madds, x.executed, x.params, x.generated) for x in watched.layers] == [
        (x.name, x.madds, x.executed, x.params, x.generated) for x in traced.layers if x.madds or x.params
    ]
    with pytest.raises(ArgumentError, match="fvcore cannot trace on the meta device"):
        count_flops(model, (3, 64, 64))


def test_backward_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 1, groups=2),
        nn.ConvTranspose2d(6, 4, 2, 2),
        DRConv2d(4, 5, 1, num_regions=3, filter_generator="learned", guide_bias=False),
    )
    model[3].weight.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    report = count_flops(model, (4, 8, 8), backward=True, batch_size=2)
    forward = {x.name: x.madds for x in report.layers}
    guide, convolution = 16 * 16 * 4 * 3, 16 * 16 * 4 * 5
    assert {x.name: x.backward for x in report.layers if x.madds} == {
        "0": forward["0"],  # no gradient of the image
        "1": 2 * forward["1"],
        "3": forward["3"],  # no gradient of the weight
        "4": 2 * forward["4"],
        "5": 2 * guide + (2 + 3) * convolution,  # the guide's gradient needs all three filters everywhere
    }
    assert report.backward == sum(x.backward for x in report.layers)
    assert all((p.grad == 1).all() for p in model.parameters()), "counting must not train"
    assert count_flops(model, (4, 8, 8)).backward is None


def test_backward_of_a_frozen_model() -> None:
    with pytest.raises(ArgumentError, match="needs parameters with requires_grad=True"):
        count_flops(nn.Conv2d(3, 3, 1).requires_grad_(False), (3, 4, 4), backward=True)


def test_include_lists_kinds_beside_the_multiply_adds() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    report = count_flops(model, (3, 5, 5), include=("bias", "norm"))
    assert report.include == ("norm", "bias")
    assert dict(report.extras) == {"bias": 100, "norm": 200, "activation": 100}
    assert report.madds == 300
    table = report.to_table()
    total = dict(zip((c.name for c in table.columns), table.rows[-1], strict=True))
    assert (total["theory"], total["norm"], total["bias"]) == (300, 200, 100)
    assert "With norm, bias: 600 operations." in table.notes
    assert any(note.endswith("activation 100.") for note in table.notes)
    with pytest.raises(ArgumentError, match="include must be one of 'norm', "):
        count_flops(model, (3, 5, 5), include=("act",))
    with pytest.raises(ArgumentError, match="counts multiply-adds only"):
        count_flops(model, (3, 5, 5), include=("norm",), engine="dispatch")


def test_a_tree_adds_up_at_every_level() -> None:
    report = count_flops(create_model("drconv_shufflenet_v2_x0_5"), (3, 64, 64))
    whole = FlopTree(report).to_table()
    names = [row[0] for row in whole.rows]
    assert names[:3] == ["total", "  conv1", "    0"]
    assert "      branch2" in names
    assert "          generator" in names
    top = FlopTree(report, 1).to_table()
    assert [row[0] for row in top.rows] == ["total", "  conv1", "  stage2", "  stage3", "  stage4", "  conv5", "  fc"]
    for column in ("theory", "executed", "params", "generated"):
        index = [c.name for c in top.columns].index(column)
        assert top.rows[0][index] == sum(row[index] or 0 for row in top.rows[1:])
    assert FlopTree(report, 0).to_table().rows == top.rows[:1]


def test_what_never_ran_is_named() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.unused = nn.Linear(7, 7)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

    for engine in ("fvcore", "dispatch"):
        report = count_flops(Odd(), (3, 5, 5), engine=engine)
        assert report.madds == 5 * 5 * 3 * 4
        assert report.uncalled == ("unused",)
        assert any(note.endswith("its caller): unused.") for note in report.to_table().notes)


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


def test_the_bias_of_every_layer_is_bias() -> None:
    for layer in (nn.Conv2d, DRConv2d, DynamicConv2d):
        with_bias, without = (count_flops(layer(8, 6, 3, bias=bias), (8, 7, 7)).extras for bias in (True, False))
        added = 25 * 6
        assert with_bias["bias"] - without.get("bias", 0) == added
        assert with_bias.get("elementwise", 0) <= without.get("elementwise", 0)
