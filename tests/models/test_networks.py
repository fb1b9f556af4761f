"""What holds for every registered model: it runs, it learns, it gives feature maps, and its keywords are checked."""

import re
from inspect import signature

import pytest
import torch
from torch import Tensor, nn

from drconv.errors import ArgumentError
from drconv.layers import DynamicLayer
from drconv.models import (
    MODELS,
    calibrate_batch_norm,
    create_model,
    default_input_size,
    describe_models,
    list_models,
    register_model,
)

# Few regions and experts: the pooled generator stores regions * regions times the weights of a convolution.
FEW = {"num_regions": 2, "num_experts": 2}

# One width or depth of each family is quick to run, in all its forms; so is whatever is new.
WIDER = re.compile(r"_x0_75|_x1_|_x2_|mobilenet_v\d_x0_5|_large|resnet(18|34|50)")
EVERY = [pytest.param(name, marks=pytest.mark.slow if WIDER.search(name) else ()) for name in list_models()]


def keywords_of(name: str) -> set[str]:
    return set(signature(MODELS[name].builder).parameters)


def small(name: str, **keywords: object) -> nn.Module:
    few = {key: value for key, value in FEW.items() if key in keywords_of(name)}
    return create_model(name, **few, **keywords)


def outputs(name: str, size: int) -> dict[str, int]:
    """Return the keyword that sets the length of the output."""
    return {"num_classes" if "num_classes" in keywords_of(name) else "embedding_size": size}


def images(name: str, channels: int = 3) -> Tensor:
    """Return the smallest images that a model takes: 112x112 for the face network, else down to a last map of 1x1."""
    _, height, _ = default_input_size(name)
    return torch.randn(2, channels, 112, 112) if height == 112 else torch.randn(4, channels, 32, 32)


@pytest.mark.parametrize("name", EVERY)
def test_a_training_step_reaches_every_dynamic_layer(name: str) -> None:
    model = small(name, in_channels=2, **outputs(name, 7))
    x = images(name, channels=2)
    logits = model(x)
    assert logits.shape == (len(x), 7)
    assert logits.isfinite().all()
    logits.square().sum().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    for path, layer in model.named_modules():
        if isinstance(layer, DynamicLayer):
            # Generator and guide, or attention and experts.
            for part_name, part in layer.named_children():
                grads = [p.grad for p in part.parameters()]
                assert not grads or any(grad.any() for grad in grads), f"{path}.{part_name}"


@pytest.mark.parametrize("name", EVERY)
def test_feature_maps_are_what_the_head_sits_on(name: str) -> None:
    whole, trunk = small(name).eval(), small(name, features_only=True).eval()
    x = images(name)[:1, :, : None if "face" in name else 30]  # an odd size on the way
    calibrate_batch_norm(whole, x)
    weights, of_trunk = whole.state_dict(), trunk.state_dict()
    head = weights.keys() - of_trunk.keys()
    assert len(head) >= 2
    # No part of the head is there, and all else is.
    assert of_trunk.keys() <= weights.keys()
    assert {key for key in weights if key.startswith(tuple({h.rpartition(".")[0] + "." for h in head}))} == head
    trunk.load_state_dict({key: weights[key] for key in of_trunk})
    maps = trunk(x)
    assert isinstance(maps, list)
    sum(m.sum() for m in maps).backward()
    assert not [n for n, p in trunk.named_parameters() if p.grad is None]
    with torch.no_grad():
        assert torch.equal(whole.forward_head(trunk(x)[-1]), whole(x))
    depths = {"mobilefacenet": 4, "_demo": 3}
    expected = (2, 4, 8, 16, 32)[: next((depth for part, depth in depths.items() if part in name), 5)]
    assert trunk.feature_strides == whole.feature_strides == expected
    assert trunk.feature_channels == whole.feature_channels == tuple(m.shape[1] for m in maps)
    for stride, feature_map in zip(expected, maps, strict=True):
        assert feature_map.shape[2:] == tuple(-(-size // stride) for size in x.shape[2:])


@pytest.mark.parametrize("name", list_models())
def test_a_wrong_keyword_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(ArgumentError, match=r"unexpected keyword argument 'depth'; keywords: .*in_channels") as caught:
        create_model(name, depth=3)
    known = str(caught.value).rpartition("keywords: ")[2].split(", ")
    assert set(known) == keywords_of(name)
    if name.startswith("dyconv_"):
        assert {"num_experts", "reduction", "temperature", "placement"} <= set(known)
    elif name.startswith("drconv_"):
        assert {"num_regions", "filter_generator", "guide_bias"} <= set(known)


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("drconv_resnet10", {"num_regions": 0}, "num_regions must be an integer of at least 1"),
        ("dyconv_resnet10", {"num_experts": 0}, "num_experts must be an integer of at least 1"),
        ("dyconv_resnet10", {"placement": "some"}, "placement must be one of 'all', 'blocks'"),
        ("resnet10", {"num_classes": 0}, "num_classes must be"),
        ("mobilenet_v1_x0_25", {"in_channels": 0}, "in_channels must be"),
        ("mobilenet_v2_x0_35", {"num_classes": -1}, "num_classes must be"),
        ("mobilenet_v3_small", {"head_channels": 0}, "head_channels must be"),
        ("mobilefacenet", {"embedding_size": 1.5}, "embedding_size must be"),
    ],
    ids=str,
)
def test_bad_values(name: str, keywords: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        create_model(name, **keywords)


def test_every_network_has_three_forms() -> None:
    plain = {name for name in list_models() if not name.startswith(("drconv_", "dyconv_"))}
    assert len(plain) == 20
    assert {f"{form}_{name}" for form in ("drconv", "dyconv") for name in plain} <= set(list_models())
    summaries = [summary for _, summary in describe_models().entries]
    assert len(set(summaries)) == len(summaries)


def test_input_sizes() -> None:
    faces = [name for name in list_models() if default_input_size(name) != (3, 224, 224)]
    assert faces == ["drconv_mobilefacenet", "dyconv_mobilefacenet", "mobilefacenet"]
    assert all(default_input_size(name) == (3, 112, 112) for name in faces)


def test_the_input_size_of_a_registered_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODELS, "_entries", dict(MODELS._entries))

    @register_model
    def one_layer() -> nn.Module:
        """One layer."""
        return nn.Conv2d(3, 4, 1)

    register_model(one_layer, name="one_layer_for_digits", input_size=(1, 28, 28))
    assert default_input_size("one_layer") == (3, 224, 224)
    assert default_input_size("one_layer_for_digits") == (1, 28, 28)


@pytest.mark.parametrize("name", ["mobilenet_v1_x0_25", "mobilenet_v2_x0_35", "mobilenet_v3_small", "resnet10"])
def test_convolutions_start_with_he_variance_by_their_outputs(name: str) -> None:
    for conv in (module for module in create_model(name).modules() if isinstance(module, nn.Conv2d)):
        expected = (2 / (conv.out_channels * conv.kernel_size[0] ** 2)) ** 0.5
        if conv.weight.numel() > 5000:
            assert conv.weight.std().item() == pytest.approx(expected, rel=0.05)
        assert conv.bias is None or not conv.bias.any()


def test_dynamic_layers_start_as_they_do_alone() -> None:
    """Not as the convolution that stood there: experts differ, and so do regions."""
    dyconv = create_model("dyconv_resnet10").layer1[0].conv1
    assert dyconv.experts.weight.std().item() == pytest.approx((2 / 576) ** 0.5, rel=0.05)
    assert (dyconv.experts.weight[0] - dyconv.experts.weight[1]).abs().mean() > 0.01
    drconv = create_model("drconv_resnet10", filter_generator="learned").layer1[0].conv1
    filters = drconv.filter_generator.filters
    assert (filters[0] - filters[1]).abs().mean() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", ["drconv_mobilenet_v2_x0_35", "dyconv_mobilenet_v3_small"])
@pytest.mark.parametrize("features_only", [False, True])
def test_networks_compile_whole_and_export_for_any_batch(name: str, features_only: bool) -> None:
    torch.compiler.reset()
    model = small(name, features_only=features_only).eval()
    x = torch.randn(2, 3, 64, 64)
    calibrate_batch_norm(model, x)
    with torch.no_grad():
        expected = model(x)
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)(x)
        torch.testing.assert_close(compiled, expected, rtol=1e-3, atol=1e-3)
        exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
        three = torch.cat((x, x[:1]))
        torch.testing.assert_close(exported(three), model(three), rtol=1e-3, atol=1e-3)
