"""Conversion of convolutions to dynamic layers and back: what is replaced, and how the new layers start."""

from collections.abc import Callable
from copy import deepcopy
from inspect import isfunction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from drconv import convert
from drconv.errors import ArgumentError, UnknownNameError
from drconv.layers import (
    FILTER_GENERATORS,
    LAYERS,
    DRConv2d,
    DynamicConv2d,
    DynamicLayer,
    FilterGenerator,
    GuideConv2d,
)
from drconv.layers import (
    convert as convert_of_layers,
)
from drconv.registry import Registry
from tests.tolerances import assert_near

FORMS = [("drconv2d", {"filter_generator": name, "num_regions": 5}) for name in FILTER_GENERATORS]
FORMS += [("dynamic_conv2d", {}), ("dynamic_conv2d", {"num_experts": 1})]
FORM_IDS = [" ".join([to, *map(str, keywords.values())]) for to, keywords in FORMS]
GEOMETRIES = {
    "1x1": (6, 9, 1),
    "3x3 strided padded": (6, 9, 3, 2, 1),
    "grouped dilated": (6, 9, 3, 1, 2, 2, 3),
    "depthwise": (6, 6, 3, 1, 1, 1, 6),
    "one weight": (1, 1, 1),
    "3x5 same": (6, 9, (3, 5), 1, "same"),
    "reflected": (6, 9, 3, 1, 1, 1, 1, True, "reflect"),
}


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, 2, 1)
        self.expand = nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.expand(self.reduce(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class SelfMadeSE(SqueezeExcite):
    """Recognised by the class that it derives from."""


class Net(nn.Module):
    """A stem, a stage of dense, grouped and depthwise convolutions, and a stage with a layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.layer1 = nn.Sequential(
            nn.Conv2d(8, 8, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 3, 1, 1, groups=8),
            SelfMadeSE(8),
            nn.Conv2d(8, 12, 3, 2, 1, groups=4),
        )
        twice = nn.Conv2d(12, 12, 3, padding=1)
        self.layer2 = nn.ModuleDict({"a": twice, "b": nn.Sequential(nn.ReLU(), twice)})
        self.head = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.stem(x))
        return self.head(self.layer2["b"](self.layer2["a"](x)))


def changed(report: Any) -> list[str]:
    return [layer.name for layer in report.changed]


def test_by_default_the_first_squeeze_excite_and_depthwise_ones_are_left() -> None:
    model, report = convert(Net())
    assert changed(report) == ["layer1.0", "layer1.4", "layer2.a", "head"]
    assert {left.name: left.reason for left in report.left} == {
        "stem": "the first convolution",
        "layer1.2": "depthwise: its guide would cost num_regions times as much as the convolution",
        "layer1.3.reduce": "inside a squeeze-excite module",
        "layer1.3.expand": "inside a squeeze-excite module",
    }
    assert type(model.layer2["a"]) is DRConv2d
    assert model.layer2["b"][1] is model.layer2["a"], "one layer in both places"
    _, report = convert(Net(), "dynamic_conv2d")
    assert changed(report) == ["layer1.0", "layer1.2", "layer1.4", "layer2.a", "head"]


def readable(value: object) -> str:
    """Name a case the same in every process, which the address of a function is not."""
    return "function" if isfunction(value) else str(value)


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("*", ["stem", "layer1.0", "layer1.2", "layer1.3.reduce", "layer1.3.expand", "layer1.4", "layer2.a", "head"]),
        ("layer1", ["layer1.0", "layer1.2", "layer1.3.reduce", "layer1.3.expand", "layer1.4"]),
        ("layer?@3x3", ["layer1.2", "layer1.4", "layer2.a"]),
        ("layer2.b", ["layer2.a"]),
        ("layer2.b.1", ["layer2.a"]),
        ("*@depthwise", ["layer1.2"]),
        ("*@grouped", ["layer1.4"]),
        ("*@3x3,dense", ["stem", "layer2.a"]),
        ("*@strided", ["stem", "layer1.4"]),
        (["*", "!layer1", "!stem@strided"], ["layer2.a", "head"]),
        (["layer1", "!*@1x1", "layer1.0"], ["layer1.0", "layer1.2", "layer1.4"]),
        (("head", "stem"), ["stem", "head"]),
        (lambda name, conv: conv.out_channels == 12, ["layer1.4", "layer2.a"]),
        (lambda name, conv: name == "layer2.b.1", ["layer2.a"]),
    ],
    ids=readable,
)
def test_where(where: Any, names: list[str]) -> None:
    _, report = convert(Net(), where=where)
    assert changed(report) == names
    assert not report.left


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("layr1", UnknownNameError, "unknown convolution 'layr1'; did you mean layer1"),
        ("reduce", UnknownNameError, r"unknown convolution 'reduce'; did you mean layer1\.3\.reduce\?"),
        (
            "layer1@5x5",
            UnknownNameError,
            r"no convolution of 'layer1' is '5x5'; there are 1x1,dense \(3\), 3x3,dep",
        ),
        ("*@depthwize", UnknownNameError, "unknown term 'depthwize'; did you mean depthwise"),
        ("*@", UnknownNameError, "unknown term ''; known: dense, grouped, depthwise, strided, 1x1, 3x3"),
        (["*", "!layer9"], UnknownNameError, "unknown convolution 'layer9'; did you mean layer"),
        ("!layer1", ArgumentError, "'!layer1' takes away from the patterns before it; begin with one such as"),
        ([], ArgumentError, r"where must be a pattern, a sequence of patterns or a function, got where=\[\]"),
        ([3], ArgumentError, r"where must be a pattern"),
        (3, ArgumentError, "where must be a pattern"),
        (
            lambda name, conv: False,
            ArgumentError,
            r"where chose none of 8 convolutions; it is called with \(name",
        ),
    ],
    ids=readable,
)
def test_a_choice_of_nothing_is_an_error_and_changes_nothing(where: Any, error: type[Exception], message: str) -> None:
    model = Net()
    with pytest.raises(error, match=message):
        convert(model, where=where)
    assert not any(isinstance(m, DynamicLayer) for m in model.modules())


@pytest.mark.parametrize(
    ("to", "keywords", "error", "message"),
    [
        ("drconv", {}, UnknownNameError, "unknown layer 'drconv'; did you mean drconv2d"),
        (
            "drconv2d",
            {"num_region": 3},
            ArgumentError,
            "keyword 'num_region' of 'drconv2d' is unknown; keywords: num",
        ),
        ("drconv2d", {"bias": False}, ArgumentError, "keyword 'bias' of 'drconv2d' comes from the convolution"),
        ("drconv2d", {"num_regions": 0}, ArgumentError, "num_regions must be an integer of at least 1"),
        ("drconv2d", {"guide_bias": "no"}, ArgumentError, "guide_bias must be true or false, got guide_bias='no'"),
        ("drconv2d", {"filter_generator": "basic"}, UnknownNameError, "did you mean basis"),
        ("drconv2d", {"filter_generator": 3}, UnknownNameError, "unknown filter generator 3"),
        ("drconv2d", {"backend": "eagr"}, UnknownNameError, "did you mean eager"),
        (
            "dynamic_conv2d",
            {"temperature": "hot"},
            ArgumentError,
            "temperature must be a number, got temperature=",
        ),
        ("dynamic_conv2d", {"temperature": -1}, ArgumentError, "temperature must be a positive number"),
        ("conv2d", {"num_regions": 3}, ArgumentError, "'conv2d' takes no keywords"),
        ("conv2d", {"keep_weights": False}, ArgumentError, "always keeps the weights"),
    ],
)
def test_bad_layers_and_keywords_change_nothing(
    to: str, keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = Net()
    before = list(model.modules())
    with pytest.raises(error, match=message):
        convert(model, to, **keywords)
    assert list(model.modules()) == before


def test_a_model_that_is_none() -> None:
    with pytest.raises(ArgumentError, match=r"model must be an nn\.Module, got a str"):
        convert("resnet18")


def test_an_error_at_the_last_layer_leaves_the_first_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Net()
    start = DRConv2d.start_from

    def fail_at_the_head(self: DRConv2d, weight: Tensor, bias: Tensor | None) -> str | None:
        if self.out_channels == 5:
            raise RuntimeError("out of memory")
        return start(self, weight, bias)

    monkeypatch.setattr(DRConv2d, "start_from", fail_at_the_head)
    with pytest.raises(RuntimeError, match="out of memory"):
        convert(model, where="*")
    assert not any(isinstance(m, DynamicLayer) for m in model.modules())


def conv_with_hook() -> nn.Module:
    conv = nn.Conv2d(4, 4, 1)
    conv.register_forward_hook(lambda *_: None)
    return conv


def conv_with_forward() -> nn.Module:
    conv = nn.Conv2d(4, 4, 1)
    conv.forward = lambda x: x
    return conv


class OfSomeone(nn.Conv2d):
    pass


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: OfSomeone(4, 4, 1), "it is a OfSomeone, not exactly an nn.Conv2d"),
        (lambda: nn.LazyConv2d(4, 1), "it is a LazyConv2d, not exactly an nn.Conv2d"),
        (
            lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
            "it is a ParametrizedConv2d, not exactly an nn.Conv2d",
        ),
        (lambda: nn.utils.spectral_norm(nn.Conv2d(4, 4, 1)), "it has hooks, which the new layer would not have"),
        (conv_with_hook, "it has hooks, which the new layer would not have"),
        (conv_with_forward, "its forward was replaced by another function"),
        (lambda: GuideConv2d(4, 3), "it scores the regions of other layers"),
        (lambda: DRConv2d(4, 4, 1), "it is a DRConv2d, not exactly an nn.Conv2d"),
        (
            lambda: nn.Conv2d(4, 4, 1, dtype=torch.complex64),
            "its weight is a Parameter of torch.complex64, not an ordinary parameter",
        ),
    ],
    ids=["subclass", "lazy", "parametrised", "old norm", "hook", "forward", "guide", "dynamic already", "complex"],
)
def test_what_is_no_plain_convolution_is_left_with_a_reason(make: Callable[[], nn.Module], reason: str) -> None:
    special = make()
    model, report = convert(nn.Sequential(nn.Conv2d(3, 4, 1), special), where="*")
    assert changed(report) == ["0"]
    assert [(left.name, left.reason) for left in report.left] == [("1", reason)]
    assert model[1] is special


def test_tied_weights_stay_tied() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    model[1].weight = model[0].weight
    _, report = convert(model, where="*")
    assert [left.reason for left in report.left] == ["another module holds the same parameter"] * 2


def test_the_parts_of_dynamic_layers_are_not_convolutions_of_the_model() -> None:
    """The guide and the pooled generator are made of convolutions."""
    model, _ = convert(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)), where="1")
    before = list(model[1].modules())
    with pytest.raises(UnknownNameError):
        convert(model, where="*.guide")
    _, report = convert(model, where=lambda name, conv: True)
    assert changed(report) == ["0"]
    assert not report.left
    assert list(model[1].modules()) == before


def test_a_model_that_is_itself_a_convolution() -> None:
    conv = nn.Conv2d(4, 6, 3).eval()
    x = torch.randn(2, 4, 7, 7)
    layer, report = convert(conv, filter_generator="learned")
    assert type(layer) is DRConv2d
    assert not layer.training
    assert changed(report) == [""]
    assert_near(layer(x), conv(x), "output")
    back, _ = convert(layer, "conv2d")
    assert type(back) is nn.Conv2d
    assert torch.equal(back.weight, conv.weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize(("to", "keywords"), FORMS, ids=FORM_IDS)
def test_the_output_starts_equal_and_is_restored(
    to: str, keywords: dict[str, Any], geometry: tuple[Any, ...], dtype: torch.dtype
) -> None:
    conv = nn.Conv2d(*geometry, dtype=dtype)
    if dtype is torch.float16:
        conv.bias = None
    x = torch.randn(3, conv.in_channels, 8, 9, dtype=dtype)
    expected = conv(x)
    layer, report = convert(conv, to, "*", **keywords)
    assert [p.dtype for p in layer.parameters()] == [dtype] * len(list(layer.parameters()))
    (row,) = report.changed
    pooled_taps = keywords.get("filter_generator") == "pooled" and conv.kernel_size != (1, 1)
    assert row.starts_equal is not pooled_taps
    assert report.starts_equal is not pooled_taps
    if pooled_taps:
        assert "one value for all taps" in row.remark
        with torch.no_grad():
            conv.weight.copy_(conv.weight.mean((2, 3), keepdim=True))
        expected = conv(x)
    assert_near(layer(x), expected, "output")
    back, report = convert(layer, "conv2d")
    assert type(back) is nn.Conv2d
    assert report.starts_equal
    assert_near(back(x), expected, "output of the restored convolution")
    assert (back.bias is None) == (conv.bias is None)


@pytest.mark.parametrize(("to", "keywords"), FORMS, ids=FORM_IDS)
def test_a_weight_of_zeros(to: str, keywords: dict[str, Any]) -> None:
    """As zero-initialised last layers have; the layer must still be able to learn."""
    conv = nn.Conv2d(4, 6, 3)
    nn.init.zeros_(conv.weight)
    x = torch.randn(2, 4, 7, 7)
    expected = conv(x)
    layer, _ = convert(conv, to, "*", **keywords)
    assert torch.allclose(layer(x), expected, atol=1e-6)
    layer(x).square().sum().backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in layer.parameters())


@pytest.mark.parametrize(("to", "keywords"), FORMS, ids=FORM_IDS)
def test_everything_learns_and_regions_and_experts_grow_apart(to: str, keywords: dict[str, Any]) -> None:
    """A parameter may get its first gradient only after others have moved, but it must get one."""
    torch.manual_seed(1)
    conv = nn.Conv2d(4, 6, 1).double()
    layer, _ = convert(conv, to, "*", **keywords)
    x, target = torch.randn(4, 4, 9, 9).double(), torch.randn(4, 6, 9, 9).double()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05)
    reached: set[str] = set()
    for _ in range(3):
        optimizer.zero_grad()
        (layer(x) - target).square().mean().backward()
        reached |= {name for name, p in layer.named_parameters() if p.grad is not None and p.grad.abs().max() > 1e-9}
        optimizer.step()
    single = keywords.get("num_experts") == 1
    expected = {name for name, _ in layer.named_parameters() if not (single and name.startswith("attention"))}
    assert reached >= expected


@pytest.mark.parametrize(("to", "name"), [("drconv2d", "filter_generator.bases"), ("dynamic_conv2d", "experts.weight")])
def test_bases_and_experts_differ_in_direction_and_in_their_updates(to: str, name: str) -> None:
    conv = nn.Conv2d(16, 6, 3, padding=1).double()
    weight = conv.weight.detach().flatten(1)
    layer, _ = convert(conv, to, "*", **({"filter_generator": "basis"} if to == "drconv2d" else {"temperature": 1.0}))
    parameter = layer.get_parameter(name)
    x = torch.randn(4, 16, 9, 9).double() + torch.randn(4, 16, 1, 1).double()
    target = torch.randn(4, 6, 9, 9).double()
    mean = parameter.detach().mean(0)
    # Zero as far as floats allow: the noise is as large as the weight, what is left of its sum 1e-15 of that.
    assert float((mean - weight).abs().max()) < 1e-15
    noise = (parameter.detach() - mean).flatten(1)
    assert 0.9 < float(noise.square().mean().sqrt() / weight.square().mean().sqrt()) < 1.1
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        (layer(x) - target).square().mean().backward()
        before = parameter.detach().clone()
        optimizer.step()
    for vectors in (parameter.detach(), parameter.detach() - before):
        unit = nn.functional.normalize(vectors.flatten(1), dim=1)
        cosines = (unit @ unit.T)[~torch.eye(len(unit), dtype=torch.bool)]
        # One step has moved the mixing weights by little, but by more than float64's 1e-16.
        assert float(cosines.max()) < 1 - 1e-8


def test_device_dtype_mode_gradients_and_memory_format_are_those_of_the_convolution() -> None:
    conv = nn.Conv2d(4, 6, 3, device="meta", dtype=torch.bfloat16).eval().requires_grad_(False)
    for to, keywords in FORMS:
        layer, _ = convert(deepcopy(conv), to, "*", **keywords)
        assert not any(m.training for m in layer.modules())
        assert {(p.device.type, p.dtype, p.requires_grad) for p in layer.parameters()} == {
            ("meta", torch.bfloat16, False)
        }
        same, report = convert(layer, "conv2d")
        assert same is layer
        assert "meta device" in report.left[0].reason
    layer, _ = convert(nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last), where="*")
    assert layer.guide.weight.is_contiguous(memory_format=torch.channels_last)


def test_new_weights_if_the_old_ones_are_not_wanted() -> None:
    conv = nn.Conv2d(4, 6, 1)
    layer, report = convert(conv, where="*", keep_weights=False)
    assert not report.starts_equal
    assert report.changed[0].remark == "the weights are drawn anew"
    assert bool(layer.filter_generator.expand.weight.any())


def learned(num_regions: int = 3) -> DRConv2d:
    return DRConv2d(4, 6, 3, num_regions=num_regions, filter_generator="learned")


def with_(layer: nn.Module, **values: float) -> nn.Module:
    for name, value in values.items():
        nn.init.constant_(layer.get_parameter(name.replace("__", ".")), value)
    return layer


@pytest.mark.parametrize(
    ("make", "exact"),
    [
        (learned, False),
        (lambda: learned(1), True),
        (lambda: with_(learned(), filter_generator__filters=2.0), True),
        (lambda: DRConv2d(4, 6, 3, filter_generator="basis"), False),
        (lambda: with_(DRConv2d(4, 6, 3, filter_generator="basis"), filter_generator__routing__weight=0), True),
        (lambda: DRConv2d(4, 6, 3, num_regions=1), False),
        (lambda: with_(DRConv2d(4, 6, 3, num_regions=1), filter_generator__expand__weight=0), True),
        (lambda: with_(DRConv2d(4, 6, 3, num_regions=1), filter_generator__reduce__weight=0), True),
        (lambda: with_(DRConv2d(4, 6, 3, num_regions=3), filter_generator__reduce__weight=0), False),
        (lambda: DynamicConv2d(4, 6, 3), False),
        (lambda: DynamicConv2d(4, 6, 3, num_experts=1), True),
        (lambda: with_(DynamicConv2d(4, 6, 3), experts__weight=0.5), True),
        (lambda: with_(DynamicConv2d(4, 6, 3, temperature=2), attention__expand__weight=0), True),
        (lambda: with_(DynamicConv2d(4, 6, 3, temperature=2), attention__reduce__weight=0), True),
    ],
)
def test_back_only_where_that_is_exact(make: Callable[[], DynamicLayer], exact: bool) -> None:
    layer = make()
    if layer.get_parameter("bias" if isinstance(layer, DRConv2d) else "experts.bias") is not None and exact:
        nn.init.constant_(layer.get_parameter("bias" if isinstance(layer, DRConv2d) else "experts.bias"), 0.25)
    x = torch.randn(3, 4, 8, 8)
    expected = layer(x)
    back, report = convert(layer, "conv2d")
    if exact:
        assert type(back) is nn.Conv2d
        assert_near(back(x), expected, "output")
    else:
        assert back is layer
        assert report.left[0].reason == "its filter is not the same for every region, position and input"


def test_bases_with_a_biased_routing_are_not_one_filter() -> None:
    layer = with_(DRConv2d(4, 6, 3, filter_generator="basis"), filter_generator__routing__weight=0)
    nn.init.normal_(layer.filter_generator.routing.bias)
    assert layer.static_filter() is None


class Block(nn.Module):
    """Hands one guided feature to two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.guide = GuideConv2d(4, 3)
        self.first = DRConv2d(4, 4, 3, 2, 1, num_regions=3, own_guide=False, filter_generator="basis")
        self.last = DRConv2d(4, 4, 1, num_regions=3, own_guide=False, filter_generator="basis")

    def forward(self, x: Tensor) -> Tensor:
        guided_feature = self.guide(x)
        return self.last(self.first(x, guided_feature), guided_feature)


def test_a_block_that_shares_a_guide_keeps_working_when_its_layers_become_convolutions() -> None:
    block = Block()
    for layer in (block.first, block.last):
        nn.init.zeros_(layer.filter_generator.routing.weight)
    x = torch.randn(2, 4, 8, 8)
    expected = block(x)
    _, report = convert(block, "conv2d")
    assert changed(report) == ["first", "last"]
    assert isinstance(block.first, nn.Conv2d)
    assert_near(block(x), expected, "output")
    _, report = convert(block, where="*")
    assert [left.name for left in report.left] == ["guide", "first", "last"]


def test_back_leaves_layers_with_hooks_and_layers_of_others() -> None:
    class Own(DRConv2d):
        def forward(self, input: Tensor, guided_feature: Tensor | None = None) -> Tensor:
            return super().forward(input, guided_feature).relu()

    hooked = learned(1)
    hooked.filter_generator.register_forward_hook(lambda *_: None)
    own = Own(4, 6, 3, num_regions=1, filter_generator="learned")
    _, report = convert(nn.ModuleList([hooked, own, learned(1)]), "conv2d", "*")
    assert changed(report) == ["2"]
    assert [left.reason for left in report.left] == [
        "it has hooks, which the new layer would not have",
        "it is a Own, which drconv.layers.LAYERS does not have",
    ]


def test_back_with_patterns() -> None:
    model = nn.ModuleList([learned(1), DRConv2d(4, 4, 1, num_regions=1, filter_generator="learned")])
    with pytest.raises(UnknownNameError, match="unknown dynamic layer 'x'; known: 0, 1"):
        convert(model, "conv2d", "x")
    _, report = convert(model, "conv2d", "*@1x1")
    assert changed(report) == ["1"]


def test_a_generator_that_cannot_start_from_a_filter_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Drawn(FILTER_GENERATORS["learned"]):
        start_from = FilterGenerator.start_from
        static_filters = FilterGenerator.static_filters

    generators: Registry[type[FilterGenerator]] = Registry("filter generator")
    generators.add("drawn", Drawn)
    monkeypatch.setattr("drconv.layers.drconv2d.FILTER_GENERATORS", generators)
    layer, report = convert(nn.Conv2d(4, 4, 1), where="*", filter_generator="drawn")
    assert report.changed[0].remark == "Drawn has no way to start from a convolution's weights"
    assert convert(layer, "conv2d")[0] is layer


def test_a_new_row_of_the_table_can_be_converted_to(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(DynamicLayer):
        """Just a convolution, but ours."""

        def __init__(self, *args: Any, device: Any = None, dtype: Any = None, scale: float = 1.0) -> None:
            super().__init__(*args, None)
            self.scale = scale
            self.conv = nn.Conv2d(self.in_channels, self.out_channels, self.kernel_size, bias=self.has_bias)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) * self.scale

    monkeypatch.setitem(LAYERS._entries, "plain", Plain)
    model, report = convert(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)), "plain", scale=2.0)
    assert type(model[1]) is Plain
    assert model[1].scale == 2.0
    assert report.changed[0].remark == "Plain has no way to start from a convolution's weights"


def test_report() -> None:
    model = Net()
    counts = sum(p.numel() for p in model.parameters())
    _, report = convert(model, num_regions=2)
    row = report.changed[1]
    assert (row.name, row.geometry, row.layer) == ("layer1.4", "8->12 3x3 stride 2 groups 4", "DRConv2d")
    after = sum(p.numel() for p in model.parameters())
    assert after - counts == sum(x.params_after - x.params_before for x in report.changed)
    data = report.to_dict()
    assert [x["starts_equal"] for x in data["changed"]] == [True, False, False, True]
    assert len(data["left"]) == 4
    table = report.to_table()
    assert len(table.rows) == 8
    assert table.notes == (
        "4 of 8 layers became DRConv2d; 2 do not start with the old output (the pooled form starts with one value for "
        "all taps of a filter, here their mean).",
    )
    assert convert(Net(), filter_generator="basis")[1].summary == "4 of 8 layers became DRConv2d; outputs start equal"
    only = convert(nn.Sequential(nn.Conv2d(3, 4, 1)))[1]
    assert only.summary == "none of 1 layers was replaced (1: the first convolution)"
    assert convert(nn.ReLU())[1].summary == "none of 0 layers was replaced"


def test_every_layer_of_the_table_is_public() -> None:
    assert list(LAYERS) == ["drconv2d", "dynamic_conv2d"]
    assert convert is convert_of_layers


@pytest.mark.parametrize("keywords", [{"filter_generator": "basis"}, {}], ids=["basis", "dynamic_conv2d"])
def test_faint_channels_start_equal_too(keywords: dict[str, str]) -> None:
    conv = nn.Conv2d(16, 32, 3, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.mul_(torch.logspace(-6, 0, 32)[:, None, None, None])
    x = torch.randn(2, 16, 9, 9)
    to = "drconv2d" if keywords else "dynamic_conv2d"
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.05)):
        old = deepcopy(conv).to(dtype)
        expected = old(x.to(dtype)).float()
        new, _ = convert(nn.Sequential(old), to, "*", **keywords)
        found = new(x.to(dtype)).float()
        per_channel = (found - expected).abs().amax((0, 2, 3)) / expected.abs().amax((0, 2, 3))
        assert per_channel.max() < tolerance


def test_what_holds_more_than_a_convolution_is_left_alone() -> None:
    with_buffer, with_child, with_parameter = (nn.Conv2d(3, 3, 1) for _ in range(3))
    with_buffer.register_buffer("mask", torch.ones(3))
    with_child.adapter = nn.Linear(3, 3)
    with_parameter.scale = nn.Parameter(torch.ones(3))
    model, report = convert(nn.Sequential(with_buffer, with_child, with_parameter, nn.Conv2d(3, 3, 1)), "drconv2d", "*")
    assert [layer.name for layer in report.changed] == ["3"]
    assert {layer.reason for layer in report.left} == {"it holds more than a weight and a bias"}
    assert model[0].mask is with_buffer.mask


def test_a_layer_without_a_guide_of_its_own_is_refused() -> None:
    with pytest.raises(ArgumentError, match="'own_guide' is not for convert, got own_guide=False"):
        convert(nn.Conv2d(3, 3, 1), own_guide=False)
