"""The plain twin: the same network with `nn.Conv2d`."""

import torch
from torch import Tensor, nn

from drconv.layers import DRConv2d, GuideConv2d, plain_twin


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.guide = GuideConv2d(4, 3)
        self.first = DRConv2d(4, 6, 3, 2, 1, groups=2, bias=False, num_regions=3, own_guide=False)
        self.last = DRConv2d(6, 4, 1, padding_mode="reflect", num_regions=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x, guided_feature=self.guide(x)))


def test_twin_has_conv2d_of_the_same_geometry_and_no_guides() -> None:
    block = Block().double().eval()
    twin = plain_twin(block)
    assert isinstance(block.first, DRConv2d), "the model itself is left alone"
    assert not any(isinstance(m, DRConv2d | GuideConv2d) for m in twin.modules())
    convs = [m for m in twin.modules() if isinstance(m, nn.Conv2d)]
    assert [c.weight.shape for c in convs] == [(6, 2, 3, 3), (4, 6, 1, 1)]
    assert convs[0].bias is None
    assert convs[1].padding_mode == "reflect"
    assert not any(m.training for m in twin.modules())
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    assert twin(x).shape == block(x).shape


def test_twin_of_a_single_layer() -> None:
    twin = plain_twin(DRConv2d(4, 6, 3, padding="same"))
    x = torch.randn(1, 4, 5, 5)
    assert isinstance(twin, nn.Conv2d)
    assert torch.equal(twin(x), nn.functional.conv2d(x, twin.weight, twin.bias, padding="same"))


def test_a_layer_in_two_places_is_replaced_in_both_by_one() -> None:
    layer = DRConv2d(4, 4, 3, padding=1)
    twin = plain_twin(nn.Sequential(layer, nn.ReLU(), layer))
    assert isinstance(twin[0], nn.Conv2d)
    assert twin[2] is twin[0]
