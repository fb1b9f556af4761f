"""Three counts of every layer of every registered model; a wrong formula is found."""

import pytest
import torch
from torch import Tensor, nn

import drconv.analysis.flops.counters as counters
import drconv.analysis.flops.operators as operators
from drconv import create_model, list_models
from drconv.analysis.flops import cross_check
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
