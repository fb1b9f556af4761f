"""The pair loss on guides: its value and gradient by hand, and what it does to a guide."""

import math

import pytest
import torch
from torch import Tensor, nn

from drconv import DRConv2d, create_model
from drconv.errors import ArgumentError, ModelError
from drconv.training.guide_loss import collect_guided_features, guide_pair_loss


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_hand(scores: Tensor, region_map: Tensor) -> tuple[float, Tensor]:
    """Return loss and its gradient for all pairs of all positions of one image, written out pair by pair."""
    regions, positions = scores.shape[0], scores.shape[1] * scores.shape[2]
    p = scores.reshape(regions, positions).double().softmax(0)
    flat = region_map.reshape(-1)
    pairs = [(i, j) for i in range(positions) for j in range(positions) if i != j]
    loss, by_share = 0.0, torch.zeros_like(p)
    for i, j in pairs:
        q = float(p[:, i] @ p[:, j])
        same = bool(flat[i] == flat[j])
        loss -= math.log(q if same else 1 - q)
        slope = -1 / q if same else 1 / (1 - q)
        by_share[:, i] += slope * p[:, j]
        by_share[:, j] += slope * p[:, i]
    gradient = p * (by_share - (p * by_share).sum(0))
    return loss / len(pairs), gradient.reshape(scores.shape) / len(pairs)


def test_value_and_gradient_are_those_of_the_formula() -> None:
    torch.manual_seed(1)
    layers = [torch.randn(2, 3, 3, 4, requires_grad=True), torch.randn(2, 4, 2, 2, requires_grad=True)]
    maps = torch.randint(0, 3, (2, 6, 8))
    # A position takes the pixel in its middle, the lower right one of the four or nine there.
    grids = [maps[:, 1::2, 1::2], maps[:, 1::3, 2::4]]
    loss = guide_pair_loss(layers, maps, rng(), pixels=64)
    loss.backward()
    loss = loss.detach()
    expected = [
        [by_hand(x.detach(), m) for x, m in zip(layer, grid, strict=True)]
        for layer, grid in zip(layers, grids, strict=True)
    ]
    values = [value for of_layer in expected for value, _ in of_layer]
    assert float(loss) == pytest.approx(sum(values) / 4, rel=1e-5)
    for layer, of_layer in zip(layers, expected, strict=True):
        gradient = torch.stack([g for _, g in of_layer]).float() / 4
        torch.testing.assert_close(layer.grad, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_ignored_pixels_are_in_no_pair(dtype: torch.dtype) -> None:
    torch.manual_seed(4)
    scores = torch.randn(2, 3, 4, 5, requires_grad=True)
    maps = torch.randint(0, 3, (2, 4, 5), dtype=dtype)
    maps[0, :2], maps[1, 3, 1:] = 255, 255
    loss = guide_pair_loss([scores], maps, rng(), ignore_index=255)
    loss.backward()
    assert scores.grad is not None
    rest = [by_hand(x.detach()[:, m != 255][:, None], m[m != 255]) for x, m in zip(scores, maps, strict=True)]
    share = [10 * 9 / (10 * 9 + 16 * 15), 16 * 15 / (10 * 9 + 16 * 15)]
    assert float(loss.detach()) == pytest.approx(share[0] * rest[0][0] + share[1] * rest[1][0], rel=1e-5)
    for image in (0, 1):
        kept = maps[image] != 255
        gradient = share[image] * rest[image][1][:, 0].float()
        torch.testing.assert_close(scores.grad[image][:, kept], gradient, rtol=1e-4, atol=1e-6)
        assert not scores.grad[image][:, ~kept].any()


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("left", [0, 1])
def test_no_pair_left_no_loss(left: int) -> None:
    scores = torch.randn(1, 4, 3, 3, requires_grad=True)
    maps = torch.full((1, 3, 3), 255)
    maps[0, 0, :left] = 1
    loss = guide_pair_loss([scores], maps, rng(), ignore_index=255)
    with torch.autograd.detect_anomaly(check_nan=True):
        loss.backward()
    assert float(loss.detach()) == 0
    assert scores.grad is not None
    assert not scores.grad.any()


def test_a_region_that_no_pixel_has_ignores_none() -> None:
    scores, maps = torch.randn(1, 4, 8, 8), torch.randint(155, 158, (1, 8, 8), dtype=torch.uint8)
    everything = guide_pair_loss([scores], maps, rng(), pixels=20)
    # -100 and 412 are 156 modulo 256.
    for absent in (-100, 412, 7):
        assert torch.equal(guide_pair_loss([scores], maps, rng(), pixels=20, ignore_index=absent), everything)
    assert not torch.equal(guide_pair_loss([scores], maps, rng(), pixels=20, ignore_index=156), everything)


@pytest.mark.parametrize("ignored", [True, 255.0, "255", 2**24 + 1])
def test_only_an_integer_can_be_ignored(ignored: object) -> None:
    with pytest.raises(ArgumentError, match="ignore_index must be None or an integer between -16777216 and 16777216"):
        guide_pair_loss([torch.zeros(1, 2, 2, 2)], torch.zeros(1, 2, 2).long(), rng(), ignore_index=ignored)  # type: ignore[arg-type]


def test_equal_scores_give_the_value_of_chance() -> None:
    maps = torch.zeros(1, 8, 8, dtype=torch.int64)
    maps[:, :, 4:] = 1
    loss = guide_pair_loss([torch.zeros(1, 4, 8, 8)], maps, rng(), pixels=64)
    same, different = 2 * 32 * 31, 2 * 32 * 32
    assert float(loss) == pytest.approx((same * math.log(4) - different * math.log(3 / 4)) / (same + different))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_certain_scores_have_finite_loss_and_gradient(dtype: torch.dtype) -> None:
    maps = torch.tensor([[[0, 1], [1, 0]]])
    right = torch.nn.functional.one_hot(maps, 2).permute(0, 3, 1, 2).to(dtype) * 200
    assert float(guide_pair_loss([right], maps, rng())) == 0
    wrong = torch.zeros(1, 2, 2, 2, dtype=dtype)
    wrong[:, 0] = 200
    wrong.requires_grad_()
    loss = guide_pair_loss([wrong], maps, rng())
    loss.backward()
    assert loss.isfinite()
    assert float(loss) > 10
    assert wrong.grad is not None
    assert wrong.grad.isfinite().all()


def test_the_generator_alone_draws_the_pixels() -> None:
    scores, maps = torch.randn(2, 4, 16, 16), torch.randint(0, 3, (2, 16, 16))
    found = [float(guide_pair_loss([scores], maps, rng(seed))) for seed in (5, 5, 6)]
    assert found[0] == found[1] != found[2]


def test_a_guide_learns_the_map() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(DRConv2d(3, 4, 1, num_regions=4, filter_generator="learned", guide_norm="batch"))
    maps = torch.zeros(4, 8, 8, dtype=torch.int64)
    maps[:, :, 3:] = 1
    images = torch.randn(4, 3, 8, 8) * 0.1 + maps[:, None]
    optimizer, draws = torch.optim.Adam(model.parameters(), 0.1), rng()
    losses = []
    with collect_guided_features(model) as guided:
        for _ in range(30):
            guided.clear()
            model(images)
            loss = guide_pair_loss(guided, maps, draws)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss))
    assert losses[-1] < 0.3 * losses[0]


def test_every_call_is_collected_and_no_hook_stays() -> None:
    model = create_model("drconv_shufflenet_v2_x0_5", num_classes=3, num_regions=2)
    layers = [m for m in model.modules() if isinstance(m, DRConv2d)]
    with collect_guided_features(model.train()) as guided:
        model(torch.randn(2, 3, 64, 64))
    assert [g.shape[1] for g in guided] == [2] * len(layers)
    assert all(g.requires_grad for g in guided)
    assert not any(layer.region_conv._forward_pre_hooks for layer in layers)


def test_what_cannot_be_supervised_is_refused() -> None:
    with (
        pytest.raises(ModelError, match="Conv2d has no layer with regions"),
        collect_guided_features(nn.Conv2d(1, 1, 1)),
    ):
        pass
    scores = torch.zeros(2, 4, 3, 3)
    cases = [
        ([], torch.zeros(2, 4, 4, dtype=torch.int64), "at least one layer, got none"),
        ([scores], torch.zeros(3, 4, 4, dtype=torch.int64), r"integers of shape \[2, H, W\], got torch.int64 of \[3"),
        ([scores], torch.zeros(2, 4, 4), "got torch.float32"),
        ([scores], torch.zeros(2, 0, 0, dtype=torch.int64), "use data that knows its regions"),
        ([scores[..., :1, :1]], torch.zeros(2, 4, 4, dtype=torch.int64), "at least two positions"),
    ]
    for features, maps, message in cases:
        with pytest.raises(ArgumentError, match=message):
            guide_pair_loss(features, maps, rng())


@pytest.mark.parametrize("pixels", [0, 1])
def test_a_pair_needs_two_pixels(pixels: int) -> None:
    with pytest.raises(ArgumentError, match=f"pixels must be .*at least .*, got pixels={pixels}"):
        guide_pair_loss([torch.zeros(2, 4, 3, 3)], torch.zeros(2, 4, 4, dtype=torch.int64), rng(), pixels=pixels)
