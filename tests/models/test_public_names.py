"""Public weights fit: the same network in torchvision or timm has the same names, shapes and outputs."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from drconv.models import calibrate_batch_norm, create_model, list_models
from tests.zoo import need


def torchvision(name: str, **keywords: object) -> nn.Module:
    return getattr(need("torchvision").models, name)(**keywords)


def timm(name: str, **keywords: object) -> nn.Module:
    return need("timm").create_model(name, **keywords)


def narrow_mobilenet_v1(width: float) -> nn.Module:
    """What timm's `mobilenetv1_100` calls with 1.0; it has no builders, and no weights, for narrower ones."""
    return need("timm").models.efficientnet._gen_mobilenet_v1("mobilenetv1_100", width)


def shallow_resnet() -> nn.Module:
    """torchvision has the class but no builder, and no weights, for one block per stage."""
    resnet = need("torchvision").models.resnet
    return resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1])


# our name -> the same network elsewhere
SAME: dict[str, Callable[[], nn.Module]] = {
    "mobilenet_v1_x0_25": partial(narrow_mobilenet_v1, 0.25),
    "mobilenet_v1_x0_5": partial(narrow_mobilenet_v1, 0.5),
    "mobilenet_v1_x0_75": partial(narrow_mobilenet_v1, 0.75),
    "mobilenet_v1_x1_0": partial(timm, "mobilenetv1_100"),
    "mobilenet_v2_x0_35": partial(torchvision, "mobilenet_v2", width_mult=0.35),
    "mobilenet_v2_x0_5": partial(torchvision, "mobilenet_v2", width_mult=0.5),
    "mobilenet_v2_x0_75": partial(torchvision, "mobilenet_v2", width_mult=0.75),
    "mobilenet_v2_x1_0": partial(torchvision, "mobilenet_v2"),
    "mobilenet_v2_x1_4": partial(torchvision, "mobilenet_v2", width_mult=1.4),
    "mobilenet_v3_small": partial(torchvision, "mobilenet_v3_small"),
    "mobilenet_v3_large": partial(torchvision, "mobilenet_v3_large"),
    "resnet10": shallow_resnet,
    "resnet18": partial(torchvision, "resnet18"),
    "resnet34": partial(torchvision, "resnet34"),
    "resnet50": partial(torchvision, "resnet50"),
    "shufflenet_v2_x0_5": partial(torchvision, "shufflenet_v2_x0_5"),
}
# our name -> why nothing there is the same
OTHER = {
    "mobilefacenet": "neither has it; the names are those of TreB1eN/InsightFace_Pytorch",
    "shufflenet_v2_x1_0": "torchvision's blocks part the channels in halves, Megvii's do not",
    "shufflenet_v2_x1_5": "torchvision's blocks part the channels in halves, Megvii's do not",
    "shufflenet_v2_x2_0": "torchvision's blocks part the channels in halves, Megvii's do not",
}


def test_the_table_is_complete() -> None:
    plain = [name for name in list_models() if not name.startswith(("drconv_", "dyconv_"))]
    assert sorted([*SAME, *OTHER]) == plain


def randomise_norms(model: nn.Module, image: torch.Tensor) -> None:
    """Give every normalisation something to do that a wrong order or a wrong epsilon would not survive."""
    calibrate_batch_norm(model, image)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias.data):
                tensor += 0.1 * torch.randn_like(tensor)
            for tensor in (module.running_var, module.weight.data):
                tensor *= 0.5 + torch.rand_like(tensor)


@pytest.mark.parametrize("name", SAME)
def test_weights_of_the_same_network_fit_and_give_the_same(name: str) -> None:
    theirs = SAME[name]()
    image = torch.randn(2, 3, 64, 64)
    randomise_norms(theirs, image)
    ours = create_model(name)
    ours.load_state_dict(theirs.state_dict())
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    with torch.no_grad():
        expected = theirs.eval()(image)
        actual = ours.eval()(image)
    assert expected.std() > 1e-2
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("mobilenet_v1_x1_0", "mobilenetv1_100"),
        ("mobilenet_v2_x1_0", "mobilenetv2_100"),
        ("mobilenet_v3_small", "mobilenetv3_small_100"),
        ("mobilenet_v3_large", "mobilenetv3_large_100"),
        ("resnet18", "resnet18"),
        ("resnet50", "resnet50"),
    ],
)
def test_feature_maps_are_those_of_timm(name: str, theirs: str) -> None:
    model = create_model(name, features_only=True)
    info = timm(theirs, features_only=True).feature_info
    assert list(model.feature_strides) == info.reduction()
    channels = info.channels()
    if "v3" in name:
        # timm counts the last 1x1 convolution, six times as wide, to the trunk; here it is part of the head.
        channels[-1] //= 6
    assert list(model.feature_channels) == channels
