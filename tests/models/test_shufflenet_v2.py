"""ShuffleNetV2: sizes, placement, and the numbers that can be cited."""

import pytest
import torch
from torch import nn

from drconv.analysis import count_flops
from drconv.errors import ArgumentError, UnknownNameError
from drconv.layers import BasisFilterGenerator, DRConv2d, GuideConv2d, plain_twin
from drconv.models import create_model
from drconv.models.shufflenet_v2 import ShuffleNetV2

SMALL = "drconv_shufflenet_v2_x0_5"


@pytest.mark.parametrize(
    ("name", "madds", "params"),
    [
        # facts: ShuffleNetV2 with the Megvii block, published as 41/146/299/591M and 1.4/2.3/3.5/7.4M
        ("shufflenet_v2_x0_5", 40_476_448, 1_366_792),
        ("shufflenet_v2_x1_0", 145_814_296, 2_279_760),
        ("shufflenet_v2_x1_5", 298_970_656, 3_507_720),
        ("shufflenet_v2_x2_0", 590_783_000, 7_403_600),
        ("drconv_shufflenet_v2_x0_5", 46_363_168, 5_519_752),
        ("drconv_shufflenet_v2_x0_5_released", 50_104_864, 2_293_792),
    ],
)
def test_citable_numbers(name: str, madds: int, params: int) -> None:
    report = count_flops(create_model(name))
    assert (report.madds, report.params) == (madds, params)


@pytest.mark.parametrize(("width", "millions"), [("x0_5", 41), ("x1_0", 146), ("x1_5", 299), ("x2_0", 591)])
def test_plain_widths_match_the_published_table(width: str, millions: int) -> None:
    published_params = {"x0_5": 1.4, "x1_0": 2.3, "x1_5": 3.5, "x2_0": 7.4}
    report = count_flops(create_model(f"shufflenet_v2_{width}"))
    # 40.48 is published as 41.
    assert report.madds / 1e6 == pytest.approx(millions, abs=0.6)
    assert round(report.params / 1e6, 1) == published_params[width]


@pytest.mark.parametrize("name", [SMALL, f"{SMALL}_released"])
def test_the_plain_twin_is_the_plain_network(name: str) -> None:
    plain = count_flops(create_model("shufflenet_v2_x0_5"))
    assert count_flops(plain_twin(create_model(name))).madds == plain.madds


def test_training_step_reaches_every_parameter() -> None:
    for name in (SMALL, f"{SMALL}_released"):
        model = create_model(name, num_classes=5)
        # Nearly equal filters, as the released code starts with, give the guide almost no gradient; any will do.
        model(torch.randn(4, 3, 64, 64)).square().sum().backward()
        untouched = [n for n, p in model.named_parameters() if p.grad is None]
        assert not untouched


def test_released_form() -> None:
    model = create_model(f"{SMALL}_released")
    layers = [m for m in model.modules() if isinstance(m, DRConv2d)]
    guides = [m for m in model.modules() if isinstance(m, GuideConv2d)]
    assert len(layers) == 32
    assert len(guides) == 16
    assert all(isinstance(layer.filter_generator, BasisFilterGenerator) and layer.guide is None for layer in layers)
    assert all(guide.bias is None and guide.kernel_size == (1, 1) for guide in guides)
    # Stride 1: the half kept for the right branch; stride 2: the whole input.
    assert model.stage3[0].guide.in_channels == 48
    assert model.stage3[1].guide.in_channels == 48
    assert model.conv1[0].bias is not None
    assert model.conv5[0].bias is not None


def parted(shuffle_first: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the input of a block of stride 1, what of it enters the right branch, and the output."""
    block = create_model("shufflenet_v2_x0_5", shuffle_first=shuffle_first).eval().stage3[1]
    entering = []
    block.branch2[0].register_forward_pre_hook(lambda layer, inputs: entering.append(inputs[0]))
    x = torch.randn(1, 96, 4, 4)
    with torch.no_grad():
        output = block(x)
    return x, entering[0], output


def test_blocks_of_the_released_form_part_even_and_odd_channels_and_end_without_a_shuffle() -> None:
    x, right, output = parted(shuffle_first=True)
    assert torch.equal(output[:, :48], x[:, 0::2])
    assert torch.equal(right, x[:, 1::2])
    assert create_model(f"{SMALL}_released").stage3[1].shuffle_first
    assert not create_model(SMALL).stage3[1].shuffle_first


def test_blocks_of_the_other_forms_part_halves_and_interleave_at_the_end() -> None:
    x, right, output = parted(shuffle_first=False)
    assert torch.equal(output[:, 0::2], x[:, :48])
    assert torch.equal(right, x[:, 48:])


def test_a_block_that_halves_the_size_does_not_shuffle_in_the_released_form() -> None:
    first, last = (create_model("shufflenet_v2_x0_5", shuffle_first=flag).eval().stage3[0] for flag in (True, False))
    first.load_state_dict(last.state_dict())
    x = torch.randn(1, 48, 4, 4)
    with torch.no_grad():
        joined = first(x)
        shuffled = last(x)
    assert torch.equal(shuffled[:, 0::2], joined[:, :48])
    assert torch.equal(shuffled[:, 1::2], joined[:, 48:])


def test_default_form_has_one_layer_per_block_with_its_own_guide() -> None:
    model = create_model(SMALL)
    layers = {n for n, m in model.named_modules() if isinstance(m, DRConv2d)}
    assert layers == {f"stage{s}.{b}.branch2.0" for s, n in ((2, 4), (3, 8), (4, 4)) for b in range(n)}
    assert all(m.guide is not None for m in model.modules() if isinstance(m, DRConv2d))


@pytest.mark.parametrize(("placement", "count"), [("none", 0), ("first", 16), ("last", 16), ("both", 32)])
@pytest.mark.parametrize("share_guide", [False, True])
def test_placement_and_sharing_are_keywords(placement: str, count: int, share_guide: bool) -> None:
    model = create_model(SMALL, placement=placement, share_guide=share_guide, num_regions=3, filter_generator="learned")
    layers = [m for m in model.modules() if isinstance(m, DRConv2d)]
    guides = [m for m in model.modules() if isinstance(m, GuideConv2d)]
    assert len(layers) == count
    assert all(layer.num_regions == 3 for layer in layers)
    assert len(guides) == (min(count, 16) if share_guide else count)


def test_parameter_names_follow_torchvision() -> None:
    names = create_model("shufflenet_v2_x0_5").state_dict()
    expected = ("conv1.0.weight", "conv1.1.bias", "stage2.0.branch1.0.weight", "stage2.0.branch2.5.weight")
    assert all(name in names for name in (*expected, "stage4.3.branch2.6.running_var", "conv5.0.weight", "fc.weight"))
    shapes = {name: tuple(names[name].shape) for name in ("stage2.0.branch1.2.weight", "stage3.1.branch2.0.weight")}
    assert shapes == {"stage2.0.branch1.2.weight": (24, 24, 1, 1), "stage3.1.branch2.0.weight": (48, 48, 1, 1)}


def test_unknown_model_offers_near_names() -> None:
    with pytest.raises(UnknownNameError, match="unknown model 'shufflenet_v2_x05'; did you mean shufflenet_v2_x0_5"):
        create_model("shufflenet_v2_x05")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"regions": 4}, "unexpected keyword argument 'regions'; keywords: .*num_regions"),
        ({"num_regions": 0}, "num_regions must be an integer of at least 1"),
        ({"placement": "middle"}, "placement must be one of 'none', 'first', 'last', 'both'"),
        ({"num_classes": 0}, "num_classes must be"),
    ],
    ids=str,
)
def test_bad_keywords(keywords: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        create_model(SMALL, **keywords)


@pytest.mark.slow
def test_the_whole_network_compiles() -> None:
    model = create_model(SMALL, num_classes=5).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, fullgraph=True)(x), model(x), rtol=1e-3, atol=1e-4)


def test_torchvision_block_for_half_width() -> None:
    """At x0.5 the Megvii block is torchvision's: both branches make half of the channels."""
    block = create_model("shufflenet_v2_x0_5").stage3[0]
    made = [m.out_channels for m in (block.branch1[2], block.branch2[5]) if isinstance(m, nn.Conv2d)]
    assert made == [48, 48]


@pytest.mark.parametrize("name", [SMALL, f"{SMALL}_released"])
def test_channels_last(name: str) -> None:
    model = create_model(name, num_classes=5).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        actual = model.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)


def test_the_demo_network_is_narrow_and_fine() -> None:
    model = create_model("drconv_shufflenet_v2_demo", features_only=True)
    maps = model(torch.randn(2, 3, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [(24, 32, 32), (72, 16, 16), (128, 8, 8)]
    layers = {name: m for name, m in model.named_modules() if isinstance(m, DRConv2d)}
    assert list(layers) == [
        f"stage{stage}.{block}.branch2.5" for stage, count in ((2, 6), (3, 4)) for block in range(count)
    ]
    assert all(isinstance(m.filter_generator, BasisFilterGenerator) and m.num_regions == 4 for m in layers.values())
    assert {m.kernel_size for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1} == {(7, 7)}


def test_stages_and_the_pooling_of_the_stem_can_be_chosen() -> None:
    plain = ShuffleNetV2((8, 16, 32), repeats=(2,), num_classes=5, stem_pool=False)
    assert plain.feature_strides == (2, 4)
    assert plain(torch.randn(2, 3, 32, 32)).shape == (2, 5)
    for repeats in ((), (1, 1), (1, 1, 1, 1)):
        with pytest.raises(ArgumentError, match="repeats must have one number per stage"):
            ShuffleNetV2((8, 16, 32, 64, 32), repeats=repeats)
    with pytest.raises(ArgumentError, match="repeats must be an integer of at least 1, got repeats=0"):
        ShuffleNetV2((8, 16, 32), repeats=(0,))
    with pytest.raises(ArgumentError, match="stem_pool must be true or false"):
        ShuffleNetV2((8, 16, 32), repeats=(1,), stem_pool=1)


def test_the_depthwise_convolutions_can_see_wider() -> None:
    wide = ShuffleNetV2((8, 16, 32), repeats=(2,), num_classes=5, stem_pool=False, kernel_size=5)
    depthwise = [m for m in wide.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert [m.kernel_size for m in depthwise] == [(5, 5)] * 3
    assert wide.forward_features(torch.randn(1, 3, 33, 32))[-1].shape == (1, 16, 9, 8)
    with pytest.raises(ArgumentError, match="kernel_size must be odd, so that the map keeps its size, got 4"):
        ShuffleNetV2((8, 16, 32), repeats=(1,), kernel_size=4)
