"""One layer on a wanted map: its text, the map that it really uses, scopes and filter orders."""

from typing import Any

import pytest
import torch

from drconv.analysis import ProfileOptions, StopRule, parse_layer, profile_layer
from drconv.analysis.profile import LayerSpec, draw_map, force_map, layer_problem, map_statistics
from drconv.analysis.profile.plan import plan_calls
from drconv.errors import ArgumentError, UnknownNameError
from drconv.layers import DRConv2d
from drconv.ops import guided_mask

ONCE = StopRule(rounds=1, warmup=0)


def test_a_text_and_what_it_leaves_to_the_defaults() -> None:
    spec = parse_layer("in=96,out=48,size=14x7,kernel=3,regions=4,dilation=2,stride=2,bias=true,generator=basis")
    assert spec == LayerSpec(96, 48, (14, 7), (3, 3), (2, 2), (2, 2), (2, 2), 1, 4, "basis", True)
    assert parse_layer(str(spec)) == spec
    assert parse_layer("in=8,out=8,size=5,kernel=5x3").padding == (2, 1)
    assert parse_layer("in=8,out=8,size=5,kernel=3,padding=0").padding == (0, 0)
    layer = spec.build()
    assert (layer.num_regions, layer.has_bias, layer.stride) == (4, True, (2, 2))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("in=8,out=8", "without size"),
        ("in=8,out=8,size=4,kernel", "must be KEY=VALUE"),
        ("in=8,out=8,size=4,in=9", "'in' twice"),
        ("in=8,out=8,size=0", "size must be one or two integers of at least 1"),
        ("in=8,out=8,size=4x4x4", "size must be one integer or two"),
        ("in=x,out=8,size=4", "in must be an integer of at least 1, got in=x"),
        ("in=8,out=8,size=4,bias=maybe", "bias must be true or false"),
        ("in=8,out=9,size=4,groups=2", "out_channels must be divisible by groups"),
        ("in=8,out=8,size=2,kernel=5,padding=0", "the kernel must fit"),
    ],
)
def test_texts_that_are_no_layer(text: str, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        parse_layer(text)


def test_near_names_are_offered() -> None:
    with pytest.raises(UnknownNameError, match="unknown key of a layer 'kernels'; did you mean kernel"):
        parse_layer("in=8,out=8,size=4,kernels=3")
    with pytest.raises(UnknownNameError, match="unknown filter generator 'poled'; did you mean pooled"):
        parse_layer("in=8,out=8,size=4,generator=poled")


def test_a_changed_kernel_takes_its_padding_along_unless_that_was_chosen() -> None:
    spec = parse_layer("in=8,out=8,size=6")
    assert spec.changed({"kernel": 3, "size": (7, 5), "in": 4}) == parse_layer("in=4,out=8,size=7x5,kernel=3")
    assert spec.changed({"kernel": 3, "padding": 0}).padding == (0, 0)
    chosen = parse_layer("in=8,out=8,size=6,kernel=3,padding=0")
    assert chosen.changed({"kernel": 5}).padding == (0, 0)
    with pytest.raises(UnknownNameError, match="did you mean regions"):
        spec.changed({"region": 3})


@pytest.mark.parametrize("kind", ["uniform", "blocky", "salt", "single", "image"])
@pytest.mark.parametrize("occurring", [None, 3])
def test_drawn_maps_have_the_regions_that_may_occur(kind: str, occurring: int | None) -> None:
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(3))
    mask = draw_map(kind, 4, 6, (12, 10), image=image, occurring=occurring)
    assert mask.shape == (4, 12, 10)
    assert 0 <= int(mask.min()) <= int(mask.max()) < 6
    counts = [sample.unique().numel() for sample in mask]
    if kind == "single":
        assert counts == [1] * 4
    elif kind != "blocky":
        assert counts == [occurring or 6] * 4
    assert max(counts) <= (occurring or 6)
    assert torch.equal(mask, draw_map(kind, 4, 6, (12, 10), image=image, occurring=occurring))
    if occurring and kind == "uniform":
        assert len({tuple(sample.unique().tolist()) for sample in mask}) > 1


def test_uniform_shares_are_equal_and_maps_differ_in_their_boundaries() -> None:
    masks = {kind: draw_map(kind, 2, 8, (16, 16)) for kind in ("uniform", "blocky", "salt", "single")}
    assert masks["uniform"][0].flatten().bincount().tolist() == [32] * 8
    found = {kind: map_statistics(mask) for kind, mask in masks.items()}
    assert found["single"].boundary_share == 0 < found["uniform"].boundary_share
    assert found["blocky"].boundary_share < 0.5 < found["salt"].boundary_share
    assert (found["uniform"].regions, found["uniform"].runs) == (8, 8)


def test_statistics_of_a_map_by_hand() -> None:
    found = map_statistics(torch.tensor([[[0, 0, 1], [0, 2, 1]], [[3, 3, 3], [3, 3, 3]]]))
    assert (found.regions, found.runs) == (2.0, 3.0)  # 00|1|0|2|1 read row by row, and one run
    assert found.boundary_share == 4 / 14


def test_colours_of_an_image_become_regions() -> None:
    """Three flat colours, side by side, are three regions with straight borders."""
    image = torch.zeros(3, 30, 30)
    image[0, :, :10], image[1, :, 10:20], image[2, :, 20:] = 255, 255, 255
    mask = draw_map("image", 1, 3, (1, 22), image=image)
    assert map_statistics(mask).runs == 3


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"kind": "noise"}, "maps must be one of 'uniform'"),
        ({"kind": "image"}, "needs an image"),
        ({"kind": "salt", "occurring": 9}, "occurring must be from 1 to num_regions=8, got occurring=9"),
    ],
)
def test_maps_that_cannot_be_drawn(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        draw_map(batch=1, num_regions=8, size=(4, 4), **wrong)


@pytest.mark.parametrize(
    "text",
    [
        "in=9,out=5,size=7x6",
        "in=8,out=8,size=9,kernel=3",
        "in=8,out=8,size=9x7,kernel=3,stride=2",
        "in=8,out=8,size=9,kernel=3,dilation=2",
        "in=8,out=8,size=9,kernel=3,padding=0",
        "in=8,out=8,size=8,kernel=4x2,padding=1x0",
        "in=8,out=8,size=5,kernel=3,groups=8,bias=true",
    ],
)
@pytest.mark.parametrize("maps", ["salt", "single"])
def test_a_layer_takes_exactly_the_wanted_map(text: str, maps: str) -> None:
    spec = parse_layer(text)
    size = spec.build().output_size(*spec.size)
    call = layer_problem(spec, batch=3, maps=maps)
    assert torch.equal(guided_mask(call.operands[2]), draw_map(maps, 3, 8, size))


def test_maps_that_cannot_be_forced() -> None:
    with pytest.raises(ArgumentError, match=r"as many input channels as regions, got in_channels=4, num_regions=8"):
        layer_problem(parse_layer("in=4,out=8,size=5"))
    with pytest.raises(ArgumentError, match="the centre of the kernel stays inside the input"):
        layer_problem(parse_layer("in=8,out=8,size=5,kernel=3,padding=3"))
    with pytest.raises(ArgumentError, match="padding is given in numbers"):
        force_map(DRConv2d(8, 8, 3, padding="same"), torch.randn(1, 8, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long))
    assert layer_problem(parse_layer("in=4,out=8,size=5"), maps="own").problem.in_channels == 4
    assert layer_problem(parse_layer("in=4,out=8,size=5"), scope="operator").problem.in_channels == 4


def test_filters_lie_in_memory_as_asked() -> None:
    spec = parse_layer("in=4,out=6,size=5,kernel=3,regions=2")
    strides = {}
    for order in ("generator", "out-innermost", "torch"):
        call = layer_problem(spec, scope="operator", filter_order=order)
        filters = call.operands[1]
        strides[order] = filters.stride()
        assert filters.shape == (1, 2, 6, 4, 3, 3)
        made = call.layer.filter_generator(call.args[0])
        assert torch.equal(filters, made)
        if order == "generator":
            assert filters.stride() == made.stride()
    assert strides["out-innermost"][1:] == (216, 1, 6, 72, 24)
    assert strides["torch"][1:] == (216, 36, 9, 3, 1)
    with pytest.raises(ArgumentError, match="use scope='operator'"):
        layer_problem(spec, filter_order="torch")
    with pytest.raises(ArgumentError, match="occurring is for maps that are drawn"):
        layer_problem(spec, maps="own", occurring=1)


@pytest.mark.parametrize("scope", ["module", "operator"])
@pytest.mark.parametrize("which", ["forward", "backward", "step"])
def test_every_scope_and_pass_is_timed_and_explained(scope: str, which: str) -> None:
    spec = parse_layer("in=8,out=6,size=5,kernel=3,regions=4,bias=true")
    options = ProfileOptions(("eager",), "both", which, StopRule(rounds=2, warmup=1))
    report = profile_layer(spec, options, batch=2, scope=scope)
    (target,) = report.targets
    assert (target.name, report.scope, report.which) == ("layer", scope, which)
    assert all(c.timing is not None and c.peak_memory > 0 and c.error is None for c in target.candidates[:2])
    assert all(c.timing is not None and c.error < 1e-4 for c in target.candidates[2:])
    assert all(c.roofline.overhead > 0 for c in target.candidates)
    convolution = 2 * 25 * 6 * 8 * 9
    guide = 2 * 25 * 4 * 8 * 9
    conv, eager = target.candidates[0].roofline.madds, target.candidates[2].roofline.madds
    assert conv == {"forward": 1, "backward": 2, "step": 3}[which] * convolution
    if scope == "operator":
        # Gradients of input and filters, and one product with every region's filter for the scores.
        assert eager == {"forward": 1, "backward": 2 + 4, "step": 3 + 4}[which] * convolution
    else:
        forward = convolution + guide
        least = {"forward": forward, "backward": 6 * convolution + 2 * guide, "step": 7 * convolution + 3 * guide}[
            which
        ]
        generator = 2 * 9 * 4 * 4 * (8 + 48) * {"forward": 1, "backward": 2, "step": 3}[which]
        assert eager == least + generator
    assert "eager NCHW takes" in target.binds


def test_the_operator_without_the_gradient_of_its_scores() -> None:
    spec = parse_layer("in=4,out=4,size=4,regions=3")
    options = ProfileOptions(("eager",), which="backward", stop=ONCE)
    report = profile_layer(spec, options, scope="operator", guide_gradient=False)
    assert report.targets[0].candidates[2].roofline.madds == 2 * 16 * 16
    assert "Without the gradient of the scores." in report.notes


def test_stages_of_a_layer_with_their_madds() -> None:
    spec = parse_layer("in=8,out=6,size=5,regions=4")
    report = profile_layer(spec, ProfileOptions(("eager",), stages=True, stop=ONCE, roofline=False), batch=2)
    split = report.targets[0].stages
    assert [s.stage for s in split.stages] == ["pool", "generator", "guide", "bucket", "convolution"]
    assert [s.madds for s in split.stages] == [0, 2 * (16 * 8 + 16 * 48), 2 * 25 * 4 * 8, 0, 2 * 25 * 6 * 8]
    assert split.sum == sum(s.timing.median for s in split.stages)
    assert split.layout == "NCHW"
    last = ProfileOptions(("eager",), "channels_last", stages=True, stop=ONCE, roofline=False)
    assert profile_layer(spec, last).targets[0].stages.layout == "channels_last"
    learned = parse_layer("in=8,out=6,size=5,regions=4,generator=learned")
    report = profile_layer(learned, ProfileOptions(("eager",), stages=True, stop=ONCE, roofline=False))
    assert [s.stage for s in report.targets[0].stages.stages] == ["generator", "guide", "bucket", "convolution"]


def test_a_layer_is_the_same_for_the_same_seed_and_leaves_the_random_numbers_alone() -> None:
    spec = parse_layer("in=8,out=6,size=5")
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    first, second, third = (layer_problem(spec, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.randn(3), expected)
    assert torch.equal(first.operands[1], second.operands[1])
    assert not torch.equal(first.operands[1], third.operands[1])


def test_what_would_be_timed() -> None:
    call = layer_problem(parse_layer("in=8,out=6,size=5"), dtype=torch.float64)
    plan = plan_calls([call], ProfileOptions(layout="both"))
    (target,) = plan.targets
    assert [(c.candidate, c.layout) for c in target.candidates[:2]] == [("conv2d", "NCHW"), ("conv2d", "channels_last")]
    reasons = {(c.candidate, c.layout): c.reason for c in target.candidates[2:]}
    assert reasons["native", "NCHW"].startswith("it takes float32")
    assert reasons["eager", "channels_last"] is None
    gpu = () if torch.cuda.is_available() else ("triton",)
    assert plan.left_out == (*gpu, "reference")
    (alone,) = plan_calls([call], ProfileOptions(("eager",), naive=False)).targets
    assert [c.candidate for c in alone.candidates] == ["conv2d", "conv2d", "eager"]
