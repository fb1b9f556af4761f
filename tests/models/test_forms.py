"""The DyConv form of every network, and the numbers of its paper (arXiv 1912.03458)."""

import pytest

from drconv.analysis import count_flops
from drconv.errors import DrconvError, ModelError
from drconv.layers import DynamicConv2d
from drconv.models import create_model, default_input_size, list_models

PLAIN = [name for name in list_models() if not name.startswith(("drconv_", "dyconv_"))]
FIRST = {"mobilenet_v1": "conv_stem", "resnet": "conv1", "mobilefacenet": "conv1.conv", "shufflenet": "conv1.0"}
BLOCKS = {
    "mobilenet_v1": "blocks.",
    "mobilenet_v2": "features.",
    "mobilenet_v3": "features.",
    "mobilefacenet": ("conv_23.", "conv_3.", "conv_34.", "conv_4.", "conv_45.", "conv_5."),
    "resnet": "layer",
    "shufflenet": "stage",
}
LAST = {"mobilenet_v2": "features.18.0", "mobilenet_v3_small": "features.12.0", "mobilenet_v3_large": "features.16.0"}


def of_family(table: dict[str, str | tuple[str, ...]], name: str) -> str | tuple[str, ...]:
    return next((value for family, value in table.items() if name.startswith(family)), "features.0.0")


def dynamic_layers(name: str, **keywords: object) -> set[str]:
    model = create_model(f"dyconv_{name}", num_experts=1, **keywords)
    return {path for path, module in model.named_modules() if isinstance(module, DynamicConv2d)}


@pytest.mark.parametrize("name", PLAIN)
def test_dyconv_is_every_convolution_but_the_first_and_those_of_squeeze_excite(name: str) -> None:
    weights = create_model(name).state_dict()
    convs = {key.removesuffix(".weight") for key, tensor in weights.items() if tensor.dim() == 4}
    squeezing = {conv for conv in convs if conv.endswith((".fc1", ".fc2"))}
    assert len(squeezing) == {"mobilenet_v3_small": 18, "mobilenet_v3_large": 16}.get(name, 0)
    expected = convs - squeezing - {of_family(FIRST, name)}
    assert len(expected) == len(convs) - len(squeezing) - 1
    assert dynamic_layers(name) == expected
    inside = {conv for conv in expected if conv.startswith(of_family(BLOCKS, name))} - {of_family(LAST, name)}
    assert dynamic_layers(name, placement="blocks") == inside
    assert dynamic_layers(name, placement="blocks", features_only=True) == inside


def test_keywords_reach_the_layers() -> None:
    model = create_model("dyconv_mobilenet_v1_x0_25", num_experts=3, reduction=2, temperature=5.0)
    layer = model.blocks[1][0].conv_pw
    assert layer.experts.weight.shape[0] == 3
    assert layer.attention.reduce.out_features == layer.in_channels // 2
    assert layer.attention.temperature == 5
    default = create_model("dyconv_mobilenet_v1_x0_25").blocks[1][0].conv_pw
    assert default.experts.weight.shape[0] == 4
    assert default.attention.reduce.out_features == layer.in_channels // 4
    assert default.attention.temperature == 30


def test_keywords_of_drconv_reach_the_layers() -> None:
    name = "drconv_mobilenet_v1_x0_25"
    layer = create_model(name, num_regions=3, filter_generator="basis", guide_bias=False).blocks[1][0].conv_pw
    assert layer.num_regions == 3
    assert type(layer.filter_generator).__name__ == "BasisFilterGenerator"
    assert layer.guide.bias is None
    default = create_model(name).blocks[1][0].conv_pw
    assert default.num_regions == 8
    assert type(default.filter_generator).__name__ == "PooledFilterGenerator"
    assert default.guide.bias is not None


@pytest.mark.parametrize("head_channels", [1024, 1280])
def test_mobilenet_v3_small_costs_4_percent_more(head_channels: int) -> None:
    """The abstract gives 4 % for this network."""
    plain, dynamic = (
        count_flops(create_model(f"{form}mobilenet_v3_small", head_channels=head_channels)) for form in ("", "dyconv_")
    )
    assert 1.035 < dynamic.madds / plain.madds < 1.045


@pytest.mark.parametrize(
    ("name", "keywords", "millions"),
    [
        ("dyconv_mobilenet_v2_x1_0", {"placement": "blocks"}, 11.1),
        ("dyconv_mobilenet_v2_x0_75", {"placement": "blocks"}, 7.0),
        # With the wider head of the older version, which the paper's static 2.9M are of.
        ("dyconv_mobilenet_v3_small", {"head_channels": 1280}, 4.8),
    ],
    ids=str,
)
def test_parameters_of_the_paper(name: str, keywords: dict[str, object], millions: float) -> None:
    model = create_model(name, **keywords)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("name", "madds", "paper"),
    [
        ("dyconv_resnet10", 908_924_800, 0.91e9),
        ("dyconv_resnet18", 1_859_012_352, 1.85e9),
        ("dyconv_mobilenet_v2_x1_0", 311_858_688, 312.9e6),
    ],
)
def test_multiply_adds_are_within_half_a_percent_of_the_paper(name: str, madds: int, paper: float) -> None:
    found = count_flops(create_model(name), default_input_size(name)).madds
    assert found == madds
    assert found == pytest.approx(paper, rel=0.005)


@pytest.mark.parametrize(
    ("name", "keywords", "words"),
    [
        ("mobilenet_v2_x0_35", {"dropout": 2}, "dropout must be a number of at least 0 and below 1, got dropout=2"),
        ("dyconv_mobilenet_v3_small", {"dropout": "a"}, "dropout must be a number"),
        ("resnet10", {"features_only": "no"}, "features_only must be true or false, got features_only='no'"),
        ("drconv_resnet10", {"guide_bias": "x"}, "guide_bias must be true or false"),
        ("shufflenet_v2_x0_5", {"share_guide": "x"}, "share_guide must be true or false"),
        ("drconv_resnet10", {"num_regions": 2**40}, "num_regions must be at most 2147483647"),
        ("drconv_resnet10", {"filter_generator": ["pooled"]}, r"unknown filter generator \['pooled'\]; known: pooled"),
        ("dyconv_resnet10", {"temperature": 1e300}, "temperature must be a positive number"),
        ("dyconv_resnet10", {"temperature": 1e-46}, "temperature must be a positive number"),
    ],
)
def test_bad_values_are_one_error(name: str, keywords: dict[str, object], words: str) -> None:
    with pytest.raises(DrconvError, match=words):
        create_model(name, **keywords)


def test_a_network_that_does_not_fit_the_memory() -> None:
    with pytest.raises(ModelError, match="model 'resnet10' cannot be built with"):
        create_model("resnet10", num_classes=2**31 - 1)
