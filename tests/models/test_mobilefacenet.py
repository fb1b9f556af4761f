"""MobileFaceNet: published sizes, names, larger images, and where DRConv stands."""

import pytest
import torch
from torch import nn

from drconv.analysis import count_flops
from drconv.layers import DRConv2d
from drconv.models import calibrate_batch_norm, create_model, default_input_size


def test_counts() -> None:
    """Published are 221M and 0.99M parameters, which leaves out the slopes of the activations."""
    model = create_model("mobilefacenet")
    report = count_flops(model, default_input_size("mobilefacenet"))
    slopes = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.PReLU))
    assert report.madds == 220_965_376
    assert (report.params - slopes, slopes) == (995_584, 7_552)


def test_names_are_those_of_the_public_weights() -> None:
    names = set(create_model("mobilefacenet").state_dict())
    unit = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked")
    blocks = ["conv_23", "conv_34", "conv_45"]
    blocks += [f"conv_{stage}.model.{i}" for stage, repeats in ((3, 4), (4, 6), (5, 2)) for i in range(repeats)]
    linear = [*(f"{block}.project" for block in blocks), "conv_6_dw"]
    curved = [
        "conv1",
        "conv2_dw",
        "conv_6_sep",
        *(f"{block}.{part}" for block in blocks for part in ("conv", "conv_dw")),
    ]
    expected = {f"{part}.{name}" for part in linear + curved for name in unit}
    expected |= {f"{part}.prelu.weight" for part in curved}
    expected |= {"linear.weight", *(name for name in unit if name.startswith("bn."))}
    assert names == expected


def test_blocks_that_keep_the_size_add_their_input() -> None:
    model = create_model("mobilefacenet").eval()
    for block in [*model.conv_3.model, *model.conv_4.model, *model.conv_5.model]:
        nn.init.zeros_(block.project.bn.weight)
        x = torch.randn(1, block.project.conv.out_channels, 4, 4)
        assert torch.equal(block(x), x)
    for block in (model.conv_23, model.conv_34, model.conv_45):
        nn.init.zeros_(block.project.bn.weight)
        assert not block(torch.randn(1, block.conv.conv.in_channels, 4, 4)).any()


def test_the_embedding() -> None:
    model = create_model("mobilefacenet", embedding_size=512)
    assert model.linear.weight.shape == (512, 512)
    faces = torch.randn(4, 3, 112, 112)
    calibrate_batch_norm(model, faces)
    with torch.no_grad():
        assert model.eval()(faces).shape == (4, 512)


def test_the_mean_over_what_is_left_changes_nothing_at_112_and_lets_larger_images_in() -> None:
    model = create_model("mobilefacenet").eval()
    last_map = torch.randn(1, 128, 8, 7)
    with torch.no_grad():
        both = model.forward_head(last_map)
        each = [model.forward_head(last_map[:, :, top : top + 7]) for top in (0, 1)]
        assert model(torch.randn(1, 3, 128, 112)).shape == (1, 128)
    torch.testing.assert_close(both, (each[0] + each[1]) / 2)
    assert not torch.allclose(each[0], each[1], rtol=0.01)


@pytest.mark.parametrize("features_only", [False, True])
def test_drconv_expands_and_projects_in_every_block(features_only: bool) -> None:
    model = create_model("drconv_mobilefacenet", num_regions=2, features_only=features_only)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, DRConv2d)}
    blocks = ["conv_23", "conv_34", "conv_45"]
    blocks += [f"conv_{stage}.model.{i}" for stage, repeats in ((3, 4), (4, 6), (5, 2)) for i in range(repeats)]
    assert set(layers) == {f"{block}.{part}.conv" for block in blocks for part in ("conv", "project")}
    assert all(m.guide is not None and m.guide.kernel_size == m.kernel_size == (1, 1) for m in layers.values())
