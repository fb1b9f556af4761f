"""Three counts of every layer of every registered model; a wrong formula is found."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import drconv.analysis.flops.counters as counters
import drconv.analysis.flops.operators as operators
from drconv import create_model, list_models
from drconv.analysis.flops import count_flops, cross_check
from drconv.errors import ModelError
from drconv.layers import DRConv2d, DynamicConv2d

SMALL = ("x0_25", "x0_35", "x0_5", "small", "mobilefacenet", "resnet10", "resnet18")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if any(s in n for s in SMALL) else pytest.mark.slow) for n in list_models()],
)
def test_every_registered_model(name: str) -> None:
    check = cross_check(create_model(name), (3, 112, 112))
    assert not check.disagreeing
    # Every count of our own networks is a layer's, and every such layer has a closed form.
    assert all(layer.closed_form for layer in check.layers)


@pytest.mark.parametrize("generator", ["pooled", "basis", "learned"])
@pytest.mark.parametrize("layer", [DRConv2d, DynamicConv2d])
def test_odd_layers(layer: type[nn.Module], generator: str) -> None:
    keywords = {"num_regions": 3, "filter_generator": generator} if layer is DRConv2d else {"num_experts": 3}
    model = nn.Sequential(
        layer(6, 9, (3, 2), 2, (1, 0), 2, 3, **keywords),
        layer(9, 4, 1, bias=False, padding=1, **keywords),
        layer(4, 4, 3, padding="same", padding_mode="reflect", groups=4, **keywords),
    )
    check = cross_check(model, (6, 14, 11))
    assert not check.disagreeing
    assert [x.closed_form for x in check.layers] == [x.fvcore for x in check.layers]


def test_a_layer_called_twice_or_held_twice_counts_each_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.again = self.conv

        def forward(self, x: Tensor) -> Tensor:
            return self.again(self.conv(x)[..., ::2])

    (check,) = cross_check(Twice(), (3, 8, 8)).layers
    assert check.agrees
    assert check.closed_form == 81 * (64 + 32)


def test_a_wrong_formula_of_an_operator_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = operators.OP_FLOPS["drconv::region_conv2d"]
    wrong = operators._madds(lambda inputs, outputs: right(inputs, outputs) + 1)
    monkeypatch.setitem(operators.HANDLES, "drconv::region_conv2d", wrong)
    check = cross_check(create_model("drconv_shufflenet_v2_x0_5"), (3, 64, 64))
    assert len(check.disagreeing) == 16
    layer = check.disagreeing[0]
    assert (layer.type, layer.fvcore - layer.dispatch, layer.closed_form) == ("DRConv2d", 1, layer.dispatch)
    assert check.to_table().rows[-1][-1] == "no"
    assert check.to_dict()["agrees"] is False


def test_a_wrong_closed_form_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(counters.CLOSED_FORMS, nn.Conv2d, lambda module, input, output: 7)
    check = cross_check(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)), (3, 2, 2))
    assert [(x.name, x.agrees) for x in check.layers] == [("0", False), ("3", True)]


def test_functional_work_is_compared_without_a_closed_form() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(x, self.weight)

    check = cross_check(nn.Sequential(Functional()), (3, 4, 4))
    assert [(x.name, x.closed_form, x.fvcore, x.agrees) for x in check.layers] == [("0", None, 96, True)]
    assert "No closed form, so that two counts are compared: 0." in check.to_table().notes


def test_attention_in_eval_mode_forward_and_backward() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.flatten(2).mT)

    tokens = 16
    projections, products, mlp = tokens * 32 * 128, 2 * tokens * tokens * 32, 2 * tokens * 32 * 64
    model = Encoder()
    fast = torch.backends.mha.get_fastpath_enabled()
    check = cross_check(model, (32, 4, 4))
    assert not check.disagreeing
    assert sum(x.dispatch for x in check.layers) == projections + products + mlp
    assert torch.backends.mha.get_fastpath_enabled() == fast
    with torch.device("meta"):
        meta = Encoder()
    backward = count_flops(model, (32, 4, 4), backward=True).backward
    assert backward == count_flops(meta, (32, 4, 4), backward=True, engine="dispatch").backward
    # Both gradients of every product, but none of the image.
    assert backward == 2 * (projections + products + mlp) - tokens * 32 * 96


def test_layers_that_do_not_use_all_they_hold() -> None:
    class Handed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.guide = nn.Conv2d(3, 2, 1)
            self.handed = DRConv2d(3, 4, 1, num_regions=2)
            self.named = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.named.forward(self.handed(x, self.guide(x)))

    check = cross_check(Handed(), (3, 6, 6))
    assert not check.disagreeing
    closed = {x.name: x.closed_form for x in check.layers}
    assert closed == {"": None, "guide": 36 * 6, "handed": 4 * (3 + 12) + 36 * 12}

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = DRConv2d(3, 3, 1, num_regions=2)
            self.b = DRConv2d(3, 3, 1, num_regions=2)
            self.b.guide = self.a.guide

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x))

    check = cross_check(Shared(), (3, 6, 6))
    assert not check.disagreeing
    assert sum(x.fvcore for x in check.layers) == 2 * (4 * (3 + 9) + 36 * (6 + 9))


def test_a_part_that_fails_and_is_caught() -> None:
    class Caught(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wrong = nn.Conv2d(5, 4, 1)
            self.right = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.wrong(x)
            except RuntimeError:
                return self.right(x)

    with pytest.raises(ModelError, match="wrong raised an error that the model caught"):
        cross_check(Caught(), (3, 4, 4))
    layers = count_flops(Caught(), (3, 4, 4), engine="dispatch").layers
    assert {x.name: x.madds for x in layers} == {"wrong": 0, "right": 16 * 12}


def test_outputs_of_any_form() -> None:
    @dataclass
    class Output:
        maps: list[Tensor]
        note: str = "text"

    class Forms(nn.Module):
        def __init__(self, wrap: object) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.wrap = wrap

        def forward(self, x: Tensor) -> object:
            return self.wrap(self.conv(x))

    for wrap in (lambda y: {"y": y, "none": None}, lambda y: (y, 3), lambda y: Output([y])):
        report = count_flops(Forms(wrap), (3, 4, 4), backward=True)
        assert (report.madds, report.backward) == (16 * 12, 16 * 12)
