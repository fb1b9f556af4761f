"""Conversion of whole networks: ours, torchvision's and timm's."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from drconv import convert, count_flops, create_model, record_regions, region_statistics
from drconv.layers import DynamicLayer, RegionLayer
from drconv.models import calibrate_batch_norm
from tests.zoo import need

pytestmark = pytest.mark.slow


def torchvision(name: str) -> Callable[[], nn.Module]:
    return lambda: need("torchvision").models.get_model(name, weights=None, num_classes=10)


def timm(name: str, **keywords: object) -> Callable[[], nn.Module]:
    return lambda: need("timm").create_model(name, pretrained=False, num_classes=10, **keywords)


# Network -> (how it is made, where to convert, how many convolutions that is).
NETS = {
    "shufflenet_v2_x0_5": (lambda: create_model("shufflenet_v2_x0_5", num_classes=10), None, 36),
    "mobilenet_v1_x0_25": (lambda: create_model("mobilenet_v1_x0_25", num_classes=10), None, 13),
    "mobilenet_v2_x0_35": (lambda: create_model("mobilenet_v2_x0_35", num_classes=10), None, None),
    "mobilenet_v3_small": (lambda: create_model("mobilenet_v3_small", num_classes=10), None, None),
    "mobilefacenet": (lambda: create_model("mobilefacenet"), None, None),
    "resnet10": (lambda: create_model("resnet10", num_classes=10), None, None),
    "torchvision resnet18": (torchvision("resnet18"), ["layer2", "layer3@3x3"], 9),
    "torchvision regnet_y_400mf": (torchvision("regnet_y_400mf"), ["*.block3@3x3,grouped", "*.block4"], None),
    "torchvision efficientnet_b0": (torchvision("efficientnet_b0"), None, None),
    "torchvision densenet121": (torchvision("densenet121"), "features.denseblock4@3x3", 16),
    "timm mobilenetv3_small_100": (timm("mobilenetv3_small_100"), None, None),
    "timm resnet26d": (timm("resnet26d"), ["layer*@3x3", "!layer4", "conv1"], None),
    "timm ghostnet_100": (timm("ghostnet_100"), None, None),
    "timm convnext_atto": (timm("convnext_atto"), ["*", "!stem.*"], None),
    "timm vit_tiny_patch16_224": (timm("vit_tiny_patch16_224", img_size=64), "patch_embed.proj", 1),
}


def forms(net: str) -> dict[str, dict[str, object]]:
    """Return what a network becomes. Every generator starts equal in every layer: tests/layers/test_convert.py."""
    generator = "learned" if " " in net else "basis"
    return {
        "drconv2d": {"filter_generator": generator, "num_regions": 3},
        "dynamic_conv2d": {"num_experts": 2},
    }


def as_trained(model: nn.Module, images: Tensor) -> nn.Module:
    """Return a model in eval mode whose activations do not fade, so that all of it shows in the output."""
    for module in model.modules():
        # timm starts convnext with branches of 1e-6 and the heads of others at zero.
        for name, parameter in module.named_parameters(recurse=False):
            if name == "gamma" or isinstance(module, nn.Linear):
                nn.init.normal_(parameter, std=0.3)
    calibrate_batch_norm(model, images)
    return model.eval()


def worst(actual: Tensor, expected: Tensor) -> float:
    """Return the largest error as a fraction of how much the images differ."""
    return float((actual - expected).detach().abs().max() / expected.detach().std(0).max())


@pytest.mark.parametrize("net", NETS)
def test_networks_compute_the_same_and_can_be_trained_counted_recorded_and_restored(net: str) -> None:
    make, where, number = NETS[net]
    side = 112 if net == "mobilefacenet" else 64
    images = torch.randn(2, 3, side, side).double()
    model = as_trained(make().double(), images)
    expected = model(images)
    for to, keywords in forms(net).items():
        converted, report = convert(deepcopy(model), to, where, **keywords)
        layers = {name: m for name, m in converted.named_modules() if isinstance(m, DynamicLayer)}
        assert report.starts_equal
        assert [x.name for x in report.changed] == list(layers)
        assert layers
        if number is not None and not (where is None and to == "dynamic_conv2d"):
            assert len(layers) == number
        output = converted(images)
        assert worst(output, expected) < 1e-9, to
        (output * torch.randn_like(output)).sum().backward()
        for name, layer in layers.items():
            for own, parameter in layer.named_parameters():
                assert parameter.grad is not None, f"{to}: {name}.{own}"
                assert bool(parameter.grad.isfinite().all()), f"{to}: {name}.{own}"
        counted = count_flops(converted, (3, side, side))
        assert [x.name for x in counted.layers if x.stages] == list(layers)
        if to == "drconv2d":
            assert all(isinstance(layer, RegionLayer) for layer in layers.values())
            with torch.no_grad(), record_regions(converted) as recording:
                converted(images)
            statistics = region_statistics(recording)
            assert {x.name for x in statistics.layers} == set(layers)
            assert all(sum(x.region_share) == pytest.approx(1) for x in statistics.layers)
        restored, report = convert(converted, "conv2d")
        assert not report.left
        assert not any(isinstance(m, DynamicLayer) for m in restored.modules())
        assert worst(restored(images), expected) < 1e-9, to
        assert list(restored.state_dict()) == list(model.state_dict())


def test_a_converted_network_learns() -> None:
    torch.manual_seed(0)
    model, _ = convert(create_model("shufflenet_v2_x0_5", num_classes=4), filter_generator="basis", num_regions=4)
    images, labels = torch.randn(8, 3, 64, 64), torch.arange(8) % 4
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses[-5:]) < losses[0] / 3
