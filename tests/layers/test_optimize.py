"""A model with its normalisations and activations folded gives the same outputs."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from drconv import DRConv2d, DynamicConv2d, convert, create_model, optimize_for_inference, record_regions
from drconv.errors import ArgumentError
from drconv.layers import FILTER_GENERATORS, plain_twin
from drconv.models import load_model
from tests.tolerances import assert_near
from tests.zoo import need


def shaken(model: nn.Module) -> nn.Module:
    """Return the model in float64 and eval mode, with normalisations that do something."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            if module.track_running_stats:
                nn.init.normal_(module.running_mean, 0, 0.1)
                nn.init.uniform_(module.running_var, 0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.1)
    return model.double().eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def assert_same(model: nn.Module, fast: nn.Module, input: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(fast(input), model(input), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.Hardswish])
@pytest.mark.parametrize("generator", list(FILTER_GENERATORS))
def test_drconv_takes_over_norm_and_activation(generator: str, activation: type[nn.Module], bias: bool) -> None:
    conv = DRConv2d(6, 8, 3, 2, 1, groups=2, bias=bias, num_regions=3, filter_generator=generator)
    model = shaken(nn.Sequential(conv, nn.BatchNorm2d(8), activation()))
    if bias:
        nn.init.normal_(conv.bias)
    before = deepcopy(model.state_dict())
    fast = optimize_for_inference(model)
    assert [type(m) for m in fast] == [DRConv2d, nn.Identity, nn.Identity]
    assert f"activation={fast[0].activation!r}" in repr(fast)
    assert not any(p.requires_grad for p in fast.parameters())
    # Large enough that ReLU6 cuts.
    assert_same(model, fast, 20 * torch.randn(2, 6, 7, 5).double())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items()), "the model is as it was"


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_other_convolutions_take_over_the_norm(affine: bool, bias: bool) -> None:
    dynamic = DynamicConv2d(4, 6, 3, padding=1, bias=bias)
    plain = nn.Conv2d(6, 5, 1, bias=bias)
    layers = (dynamic, nn.BatchNorm2d(6, affine=affine), nn.ReLU(), plain, nn.BatchNorm2d(5, affine=affine))
    model = shaken(nn.Sequential(*layers))
    if bias:
        nn.init.normal_(dynamic.experts.bias)
    nn.init.normal_(dynamic.attention.expand.weight)
    fast = optimize_for_inference(model)
    assert [type(m) for m in fast] == [DynamicConv2d, nn.Identity, nn.ReLU, nn.Conv2d, nn.Identity]
    assert_same(model, fast, torch.randn(2, 4, 6, 6).double())


FAMILIES = {
    "drconv_shufflenet_v2_x0_5": 16,
    "drconv_shufflenet_v2_x0_5_released": 32,
    "drconv_mobilenet_v1_x0_25": 0,  # its activations are functions, not modules
    "drconv_mobilenet_v2_x0_35": 16,
    "drconv_mobilenet_v3_small": 10,
    "drconv_resnet10": 0,  # one ReLU module serves both convolutions of a block
    "dyconv_mobilenet_v3_small": 0,
    "dyconv_resnet10": 0,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_networks_lose_every_norm(name: str) -> None:
    model = shaken(create_model(name, num_classes=7))
    fast = optimize_for_inference(model)
    assert norms(fast) == 0 < norms(model)
    taken = [m.activation for m in fast.modules() if isinstance(m, DRConv2d) and m.activation is not None]
    assert len(taken) == FAMILIES[name]
    assert_same(model, fast, torch.randn(2, 3, 64, 64).double())
    assert list(dict(fast.named_modules())) == list(dict(model.named_modules())), "names stay"


@pytest.mark.parametrize("name", ["torchvision:mobilenet_v3_small", "timm:resnet18", "timm:mobilenetv3_small_050"])
def test_networks_of_collections_lose_every_norm(name: str) -> None:
    need(name.partition(":")[0])
    model = load_model(name)
    model, _ = convert(model, "drconv2d", num_regions=2, filter_generator="basis")
    model = shaken(model)
    fast = optimize_for_inference(model)
    assert norms(fast) == 0 < norms(model)
    assert_same(model, fast, torch.randn(1, 3, 64, 64).double())


def test_recordings_are_the_same() -> None:
    model = shaken(create_model("drconv_shufflenet_v2_x0_5", num_classes=7))
    image = torch.randn(1, 3, 64, 64).double()
    found = []
    for m in (model, optimize_for_inference(model)):
        with record_regions(m) as recording, torch.no_grad():
            m(image)
        found.append([(layer.name, layer.guided_mask) for layer in recording.layers])
    for (a, mask_a), (b, mask_b) in zip(*found, strict=True):
        assert a == b
        assert torch.equal(mask_a, mask_b)


def test_plain_twin_keeps_the_activation() -> None:
    model = shaken(nn.Sequential(DRConv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU()))
    twin = plain_twin(optimize_for_inference(model))
    assert float(twin(torch.randn(1, 4, 5, 5).double()).detach().min()) == 0


def test_conversion_back_is_refused_with_an_activation() -> None:
    model = nn.Sequential(DRConv2d(4, 4, 1, num_regions=1, filter_generator="learned"), nn.ReLU())
    _, report = convert(optimize_for_inference(model), "conv2d")
    assert [layer.reason for layer in report.left] == ["it has taken over an activation"]


class Twice(nn.Module):
    """The output of `conv` is read by the norm and once more."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.activation = DRConv2d(3, 4, 1, num_regions=2), nn.BatchNorm2d(4), nn.ReLU()
        self.again, self.shared = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y = self.norm(y) + y
        # One norm serves two places.
        return self.activation(self.shared(self.again(self.activation(self.shared(y)))))


class Untraceable(nn.Module):
    """Its flow depends on values, that of its parts does not."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), DRConv2d(4, 4, 1), nn.BatchNorm2d(4))
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.part(x)
        return self.norm(self.conv(y)) if float(y.sum()) > 0 else y


def hooked() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model[1].register_forward_hook(lambda module, args, output: output + 1)
    return model


def tied() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1))
    model[2].weight = model[0].weight
    return model


def activated_first() -> nn.Module:
    return nn.Sequential(DRConv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4))


class Elsewhere(nn.Module):
    """Parts of what can be traced are also called where nothing can be."""

    def __init__(self, shared: int) -> None:
        super().__init__()
        self.part = nn.Sequential(DRConv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU())
        self.again = self.part[shared]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.part(x) + self.again(x)
        return y if float(y.sum()) != 1 else x


class SharedGenerator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (DRConv2d(3, 3, 1, filter_generator="basis") for _ in range(2))
        self.second.filter_generator = self.first.filter_generator
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.norm(self.first(x)))
        return y


class Reading(nn.Module):
    """Reads by itself what folding changes."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.conv, self.norm = DRConv2d(3, 3, 1, filter_generator="basis"), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return y * (self.norm.running_mean[0] if self.what == "norm" else self.conv.filter_generator.bases.mean())


class InTraining(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        self[1].train()
        y: Tensor = super().forward(x)
        return y


class AndMore(DRConv2d):
    def forward(self, input: Tensor, guided_feature: Tensor | None = None) -> Tensor:
        return super().forward(input, guided_feature) + 1


@pytest.mark.parametrize(
    ("model", "left"),
    [
        (Twice(), 2),
        (Untraceable(), 1),
        (hooked(), 1),
        (tied(), 1),
        (activated_first(), 1),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)), 1),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 1)), nn.BatchNorm2d(4)), 1),
        (Elsewhere(0), 1),
        (Elsewhere(1), 1),
        (Elsewhere(2), 0),
        (SharedGenerator(), 1),
        (Reading("norm"), 1),
        (Reading("generator"), 1),
        (InTraining(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), 1),
        (nn.Sequential(AndMore(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()), 1),
        (nn.Sequential(AndMore(3, 4, 1), nn.ReLU()), 0),
    ],
    ids=[
        "read twice", "untraceable", "hook", "tied", "activation first", "no running statistics", "parametrized",
        "convolution elsewhere", "norm elsewhere", "activation elsewhere", "one generator", "statistics read",
        "generator read", "norm in training", "subclass", "subclass and activation",
    ],
)  # fmt: skip
def test_what_cannot_be_folded_is_left_alone(model: nn.Module, left: int) -> None:
    model = shaken(model)
    fast = optimize_for_inference(model)
    assert norms(fast) == left
    assert_same(model, fast, torch.randn(2, 3, 4, 4).double())


class Flagged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.kept = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), None

    def forward(self, x: Tensor, normed: bool = True) -> Tensor:
        if self.kept is None:
            self.kept = x.sum()
        y: Tensor = self.conv(x)
        return self.norm(y) if normed else y


def test_flags_can_still_be_given() -> None:
    model, x = shaken(Flagged()), torch.randn(2, 3, 4, 4).double()
    fast = optimize_for_inference(model)
    assert_near(fast(x, False), model(x, False), "without")
    assert_near(fast(x), model(x), "with")


def test_tracing_leaves_nothing_behind() -> None:
    assert optimize_for_inference(Flagged()).kept is None


def test_twice_optimized_is_the_same() -> None:
    model = shaken(nn.Sequential(DRConv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU()))
    fast = optimize_for_inference(optimize_for_inference(model))
    assert_same(model, fast, torch.randn(2, 3, 4, 4).double())


def test_only_modules_are_taken() -> None:
    with pytest.raises(ArgumentError, match="got a function"):
        optimize_for_inference(lambda x: x)  # type: ignore[arg-type]
