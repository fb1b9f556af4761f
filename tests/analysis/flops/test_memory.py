"""Bytes by hand."""

import pytest
import torch
from torch import Tensor, nn

from drconv.analysis.flops import estimate_memory
from drconv.errors import ArgumentError, ModelError
from drconv.layers import DRConv2d
from drconv.models import create_model


def test_a_chain_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    found = estimate_memory(model, (4, 10, 10), 3)
    image, wide, narrow = 3 * 4 * 100 * 4, 3 * 8 * 100 * 4, 3 * 2 * 100 * 4
    parameters = 4 * (8 * 4 * 9 + 8 + 16 + 2)
    assert found.parameters == parameters
    assert found.generated_filters == 0
    # The ReLU's output is kept for both layers around it; the first convolution's own output is not.
    assert found.activations == wide + narrow
    assert found.inference_peak == parameters + image + 2 * wide
    # Backward holds at once: what was kept, the gradients of both wide maps, and those of the last layer's parameters.
    assert found.training_peak >= parameters + image + 3 * wide
    assert found.training_peak <= parameters + image + 3 * wide + 2 * narrow + parameters


def test_what_is_written_in_place_counts_once() -> None:
    def peak(*layers: nn.Module) -> int:
        return estimate_memory(nn.Sequential(*layers), (3, 8, 8)).inference_peak

    conv = nn.Conv2d(3, 16, 1)
    assert peak(conv, nn.ReLU(inplace=True)) == peak(conv)
    assert peak(conv, nn.ReLU()) == peak(conv) + 16 * 64 * 4


def test_generated_filters_of_a_batch() -> None:
    layer = DRConv2d(6, 4, 3, padding=1, num_regions=5)
    assert estimate_memory(layer, (6, 8, 8), 7).generated_filters == 7 * 5 * 4 * 6 * 9 * 4
    layer = DRConv2d(6, 4, 3, padding=1, num_regions=5, filter_generator="learned")
    assert estimate_memory(layer, (6, 8, 8), 7).generated_filters == 0


def test_a_batch_that_no_machine_could_hold() -> None:
    model = create_model("drconv_shufflenet_v2_x0_5")
    state = {name: t.clone() for name, t in model.state_dict().items()}
    found = estimate_memory(model, (3, 224, 224), 10**6)
    assert found.inference_peak > 10**12
    assert found.activations > 10 * found.parameters
    assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items())
    with torch.device("meta"):
        assert estimate_memory(create_model("drconv_shufflenet_v2_x0_5"), (3, 224, 224), 10**6) == found


def test_the_mode_does_not_matter() -> None:
    # One image, and a BatchNorm on a 1x1 map, which would fail in train mode.
    model = nn.Sequential(DRConv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4))
    assert estimate_memory(model.train(), (3, 8, 8)) == estimate_memory(model.eval(), (3, 8, 8))


def test_half_precision_takes_half() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU())
    single, half = estimate_memory(model, (4, 9, 9)), estimate_memory(model.half(), (4, 9, 9))
    assert half.inference_peak * 2 == single.inference_peak


def test_a_model_that_looks_at_values_is_refused() -> None:
    class Looks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum().item() > 0 else -x

    with pytest.raises(ModelError, match="Looks failed on an input of 1x3x4x4"):
        estimate_memory(Looks(), (3, 4, 4))
    with pytest.raises(ArgumentError, match="sizes must be at least 1"):
        estimate_memory(nn.ReLU(), (3, 4, 4), 0)
    with pytest.raises(ModelError, match="ReLU failed on an input of"):
        estimate_memory(nn.ReLU(), (3, 4, 4), 10**30)
