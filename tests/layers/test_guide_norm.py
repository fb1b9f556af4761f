"""A guide with a BatchNorm, and the same guide with the norm folded away."""

from copy import deepcopy

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from drconv import (
    DRConv2d,
    GuideConv2d,
    convert,
    count_flops,
    create_model,
    fold_guide_norm,
    guided_mask,
    optimize_for_inference,
    record_regions,
)
from drconv.errors import ArgumentError, ModelError
from drconv.layers import FILTER_GENERATORS

NETWORK = "drconv_shufflenet_v2_x0_5"


def trained(model: nn.Module, size: tuple[int, ...] = (3, 64, 64), steps: int = 4) -> nn.Module:
    """Return the model in eval mode after some steps, so that its norms have seen something and are no identity."""
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        out = model.train()(torch.randn(4, *size))
        (out * torch.randn_like(out)).mean().backward()
        optimizer.step()
    for module in model.modules():
        if isinstance(module, GuideConv2d) and module.norm is not None:
            nn.init.uniform_(module.norm.weight, 0.5, 2)
            nn.init.normal_(module.norm.bias)
            nn.init.normal_(module.norm.running_mean)
            nn.init.uniform_(module.norm.running_var, 0.1, 3)
    return model.eval()


def test_the_norm_is_a_batch_norm_of_the_scores() -> None:
    guide = GuideConv2d(5, 3, 3, padding=1, guide_norm="batch")
    x = torch.randn(4, 5, 6, 7)
    logits = nn.functional.conv2d(x, guide.weight, guide.bias, padding=1)
    expected = (logits - logits.mean((0, 2, 3), keepdim=True)) / (
        logits.var((0, 2, 3), unbiased=False, keepdim=True) + guide.norm.eps
    ).sqrt()
    torch.testing.assert_close(guide(x), expected, rtol=1e-4, atol=1e-5)
    assert GuideConv2d(5, 3).norm is None
    assert set(GuideConv2d(5, 3).state_dict()) == {"weight", "bias"}, "off by default"


@pytest.mark.parametrize("kind", [GuideConv2d, DRConv2d])
def test_an_unknown_norm_is_named(kind: type[nn.Module]) -> None:
    with pytest.raises(ArgumentError, match=r"guide_norm must be one of .*batch.*, got guide_norm='layer'"):
        kind(4, 4, 1, guide_norm="layer")


@pytest.mark.parametrize("geometry", [{}, {"kernel_size": 3, "padding": 1, "stride": 2, "dilation": 2}], ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_a_folded_guide_has_equal_scores(bias: bool, geometry: dict[str, int]) -> None:
    guide = trained(GuideConv2d(6, 4, **geometry, bias=bias, guide_norm="batch"), (6, 9, 9))
    before = deepcopy(guide.state_dict())
    folded = fold_guide_norm(guide)
    paper = GuideConv2d(6, 4, **geometry)
    paper.load_state_dict(folded.state_dict())
    x = torch.randn(3, 6, 11, 9)
    with torch.no_grad():
        torch.testing.assert_close(paper(x), guide(x), rtol=1e-6, atol=1e-6)
        assert torch.equal(guided_mask(paper(x)), guided_mask(guide(x)))
    assert repr(folded) == repr(paper)
    assert all(p.requires_grad for p in folded.parameters())
    assert all(torch.equal(before[name], value) for name, value in guide.state_dict().items()), "the model is as it was"


@pytest.mark.parametrize("share_guide", [False, True])
def test_a_folded_network_is_the_papers(share_guide: bool) -> None:
    keywords = {"num_classes": 5, "num_regions": 4, "filter_generator": "basis", "share_guide": share_guide}
    model = trained(create_model(NETWORK, guide_norm="batch", **keywords), steps=1)
    paper = create_model(NETWORK, **keywords).eval()
    paper.load_state_dict(fold_guide_norm(model).state_dict())
    found = []
    x = torch.randn(2, 3, 64, 64)
    for network in (model, paper):
        with record_regions(network) as recording, torch.no_grad():
            network(x)
        found.append(recording.layers)
    # The first layer's input is the same to the bit; later ones carry the rounding of those before.
    torch.testing.assert_close(found[0][0].guided_feature, found[1][0].guided_feature, rtol=1e-6, atol=1e-6)
    assert all(torch.equal(a.guided_mask, b.guided_mask) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("generator", list(FILTER_GENERATORS))
def test_inference_folds_the_norm_and_runs_in_one_call(generator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = DRConv2d(6, 8, 3, padding=1, num_regions=3, filter_generator=generator, guide_norm="batch")
    trained(layer, (6, 9, 9))
    fast = optimize_for_inference(layer)
    x = torch.randn(2, 6, 9, 9)
    with torch.no_grad():
        expected = layer(x)
        torch.testing.assert_close(fast(x), expected, rtol=1e-4, atol=1e-5)
        calls: list[torch.Size] = []
        with monkeypatch.context() as patch:
            patch.setattr(nn.Conv2d, "forward", lambda self, input: calls.append(input.shape))
            fast(x)
            assert not calls, "the folded layer is fused"
            with pytest.raises(AttributeError):
                layer(x)
            assert calls, "the layer with a norm runs stage by stage"


def test_a_guide_that_is_hooked_stays_as_it_is() -> None:
    model = trained(nn.Sequential(DRConv2d(4, 4, 1, num_regions=2, guide_norm="batch")), (4, 5, 5))
    seen: list[str] = []
    model[0].guide.norm.register_forward_hook(lambda *_: seen.append("norm"))
    with pytest.raises(ModelError, match=r"guide '0.guide' cannot be folded: it has hooks"):
        fold_guide_norm(model)
    optimize_for_inference(model)(torch.randn(1, 4, 5, 5))
    assert seen == ["norm"]


def test_a_norm_without_statistics_is_refused() -> None:
    guide = GuideConv2d(4, 2, guide_norm="batch")
    guide.norm = nn.BatchNorm2d(2, track_running_stats=False)
    with pytest.raises(ModelError, match="guide 'GuideConv2d' cannot be folded: its norm keeps no running statistics"):
        fold_guide_norm(guide)
    guide.norm = nn.InstanceNorm2d(2)
    with pytest.raises(ModelError, match="its norm is of class InstanceNorm2d, not a BatchNorm2d"):
        fold_guide_norm(guide)
    with pytest.raises(ArgumentError, match=r"model must be an nn\.Module, got a str"):
        fold_guide_norm("model")


def test_guides_that_share_a_weight_are_folded_apart() -> None:
    model = nn.Sequential(GuideConv2d(4, 4, guide_norm="batch"), GuideConv2d(4, 4, guide_norm="batch"))
    model[1].weight = model[0].weight
    trained(model, (4, 5, 5))
    x = torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(fold_guide_norm(model)(x), model(x), rtol=1e-5, atol=1e-5)


def test_counting_is_exact_with_the_norm_and_without() -> None:
    layer = DRConv2d(6, 8, 1, num_regions=3, filter_generator="learned", guide_norm="batch").eval()
    positions = 5 * 7
    stages = {s.stage: s for s in count_flops(layer, (6, 5, 7), include=("norm", "bias")).layers[0].stages}
    assert stages["guide"].madds == positions * 6 * 3
    # A scale and a shift for each score, which folding takes away; fvcore counts two operations.
    assert (
        stages["guide"].extras["norm"]
        == FlopCountAnalysis(layer.guide, torch.randn(1, 6, 5, 7)).by_operator()["batch_norm"]
        == 2 * positions * 3
    )
    folded = {s.stage: s for s in count_flops(fold_guide_norm(layer), (6, 5, 7), include=("norm",)).layers[0].stages}
    assert folded["guide"].madds == stages["guide"].madds
    assert folded["guide"].extras.get("norm", 0) == 0
    assert stages["guide"].params == folded["guide"].params + 2 * 3


def test_convert_makes_guides_with_a_norm() -> None:
    model, report = convert(nn.Sequential(nn.Conv2d(4, 6, 3, padding=1)), to="drconv2d", where="0", guide_norm="batch")
    assert model[0].guide.norm.num_features == model[0].num_regions
    x = torch.randn(1, 4, 5, 5)
    assert [c.layer for c in report.changed] == ["DRConv2d"]
    model, _ = convert(
        nn.Sequential(nn.Conv2d(4, 6, 1)), "drconv2d", "0", filter_generator="learned", guide_norm="batch"
    )
    expected = model(x)
    back, report = convert(model, "conv2d")
    assert report.starts_equal
    torch.testing.assert_close(back(x), expected)


def test_one_region_needs_no_scores() -> None:
    layer = DRConv2d(4, 6, 3, padding=1, num_regions=1, filter_generator="learned", guide_norm="batch")
    plain = DRConv2d(4, 6, 3, padding=1, num_regions=1, filter_generator="learned")
    plain.load_state_dict(fold_guide_norm(layer).state_dict())
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(layer(x), plain(x))


def test_gradients_reach_the_guide_and_its_norm() -> None:
    layer = DRConv2d(4, 6, 1, num_regions=3, filter_generator="learned", guide_norm="batch")
    layer(torch.randn(2, 4, 5, 5)).square().mean().backward()
    assert all(float(p.grad.abs().max()) > 0 for n, p in layer.guide.named_parameters() if n != "bias")


@pytest.mark.slow
def test_compile_and_export() -> None:
    layer = trained(DRConv2d(4, 6, 1, num_regions=3, guide_norm="batch"), (4, 5, 5))
    x = torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        expected = layer(x)
        torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), expected)
        torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), expected)
