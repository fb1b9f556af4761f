"""The released counter's figures, and each of its rules by hand."""

import pytest
from torch import Tensor, nn

from drconv.analysis.flops import count_flops, count_released
from drconv.layers import DRConv2d, DynamicConv2d
from drconv.models import create_model


def test_the_figures_that_follow_from_the_released_code() -> None:
    # Worked out from its rules: conv 40,476,448, the classifier's additions, the two pools.
    assert count_released(create_model("shufflenet_v2_x0_5")).madds == 41_733_432
    # The released network as shipped, one operation per generated weight.
    assert count_released(create_model("drconv_shufflenet_v2_x0_5_released")).madds == 45_019_192


def test_one_guide_per_layer_gives_46_million() -> None:
    model = create_model("drconv_shufflenet_v2_x0_5_released", share_guide=False, guide_bias=True, ends_bias=False)
    assert round(count_released(model).madds / 1e6, 2) == 46.37


@pytest.mark.parametrize(
    ("layer", "input", "count"),
    [
        (nn.Conv2d(6, 4, 3, groups=2, padding=1), (6, 5, 5), 25 * 4 * 3 * 9),
        (nn.MaxPool2d(3, 2, 1), (6, 5, 5), 3 * 6 * 9),
        (nn.MaxPool2d((3, 2)), (6, 6, 6), 6 * 6 * 6),
        (nn.AvgPool2d(5), (6, 5, 5), (5 + 1) * 6),
        (nn.AdaptiveAvgPool2d(1), (6, 5, 5), (5 + 1) * 6),
        (nn.BatchNorm2d(6), (6, 5, 5), 0),
        (nn.ReLU(), (6, 5, 5), 0),
        (nn.Sequential(nn.Flatten(), nn.Linear(150, 7)), (6, 5, 5), 299 * 7),
        (DRConv2d(6, 4, 1, num_regions=3), (6, 5, 5), 25 * 6 * (3 + 4) + 6 * 9 + 3 * 24),
        (DRConv2d(6, 4, 1, num_regions=3, filter_generator="basis"), (6, 5, 5), 25 * 6 * 7 + 11 * 24 + 3 * 24),
        (DRConv2d(6, 4, 1, num_regions=3, filter_generator="learned"), (6, 5, 5), 25 * 6 * 7),
        (DynamicConv2d(8, 4, 1, num_experts=3), (8, 5, 5), 25 * 32 + 15 * 2 + 3 * 3 + 32),
    ],
)
def test_rules(layer: nn.Module, input: tuple[int, ...], count: int) -> None:
    model = nn.Sequential(layer)
    report = count_released(model, input)
    assert report.madds == count
    assert report.convention.startswith("operations per image as counted by the rules of the released DRConv code")
    assert report.executed == count_flops(model, input).executed
    for counted in report.layers:
        assert not counted.stages or sum(s.madds for s in counted.stages) == counted.madds


def test_a_guide_that_is_not_used_does_not_count() -> None:
    class Handed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = DRConv2d(3, 4, 1, num_regions=2, filter_generator="learned")

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x, x[:, :2])

    assert count_released(Handed(), (3, 5, 5)).madds == 25 * 12
