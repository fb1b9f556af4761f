"""The region contrast loss: its value and gradient by hand."""

import math

import pytest
import torch
from torch import Tensor

from drconv.errors import ArgumentError
from drconv.training.region_contrast import region_contrast_loss


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_hand(embedding: Tensor, region_map: Tensor, scale: float) -> tuple[list[float], Tensor]:
    """Return the losses of the pixels of one image that have a fellow, and the gradient of their sum."""
    depth = embedding.shape[0]
    x = embedding.reshape(depth, -1).double()
    lengths = x.norm(dim=0)
    unit = x / lengths
    flat = region_map.reshape(-1).tolist()
    losses, by_unit = [], torch.zeros_like(unit)
    for i in range(len(flat)):
        others = [j for j in range(len(flat)) if j != i]
        fellows = [j for j in others if flat[j] == flat[i]]
        if not fellows:
            continue
        logits = {j: scale * float(unit[:, i] @ unit[:, j]) for j in others}
        total = sum(math.exp(value) for value in logits.values())
        losses.append(sum(math.log(total) - logits[j] for j in fellows) / len(fellows))
        for j in others:
            slope = math.exp(logits[j]) / total - (j in fellows) / len(fellows)
            by_unit[:, i] += scale * slope * unit[:, j]
            by_unit[:, j] += scale * slope * unit[:, i]
    gradient = (by_unit - unit * (unit * by_unit).sum(0)) / lengths
    return losses, gradient.reshape(embedding.shape)


def test_value_and_gradient_are_those_of_the_formula() -> None:
    torch.manual_seed(2)
    embedding = torch.randn(2, 5, 3, 4, requires_grad=True)
    maps = torch.randint(0, 4, (2, 3, 4))
    maps[0] = 3  # of the first image, all pixels but one are fellows
    maps[0, 1, 2] = 0
    loss = region_contrast_loss(embedding, maps, rng(), scale=3.0)
    loss.backward()
    found = [by_hand(x.detach(), m, 3.0) for x, m in zip(embedding, maps, strict=True)]
    count = sum(len(losses) for losses, _ in found)
    assert len(found[0][0]) == 11
    assert float(loss) == pytest.approx(sum(sum(losses) for losses, _ in found) / count, rel=1e-5)
    assert embedding.grad is not None
    expected = torch.stack([gradient for _, gradient in found]).float() / count
    torch.testing.assert_close(embedding.grad, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_ignored_pixels_are_in_no_pair(dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    embedding = torch.randn(2, 5, 3, 4, requires_grad=True)
    maps = torch.randint(0, 3, (2, 3, 4), dtype=dtype)
    maps[0, :, 2:], maps[1, 1] = 255, 255
    loss = region_contrast_loss(embedding, maps, rng(), scale=3.0, ignore_index=255)
    loss.backward()
    assert embedding.grad is not None
    rest = [by_hand(x.detach()[:, m != 255], m[m != 255], 3.0) for x, m in zip(embedding, maps, strict=True)]
    count = sum(len(losses) for losses, _ in rest)
    assert float(loss.detach()) == pytest.approx(sum(sum(losses) for losses, _ in rest) / count, rel=1e-5)
    for image in (0, 1):
        kept = maps[image] != 255
        gradient = rest[image][1].float() / count
        torch.testing.assert_close(embedding.grad[image][:, kept], gradient, rtol=1e-4, atol=1e-6)
        assert not embedding.grad[image][:, ~kept].any()


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("left", [0, 1])
def test_no_pair_left_no_loss(left: int) -> None:
    embedding = torch.randn(1, 3, 3, 3, requires_grad=True)
    maps = torch.full((1, 3, 3), 255)
    maps[0, 0, :left] = 1
    loss = region_contrast_loss(embedding, maps, rng(), ignore_index=255)
    with torch.autograd.detect_anomaly(check_nan=True):
        loss.backward()
    assert float(loss.detach()) == 0
    assert embedding.grad is not None
    assert not embedding.grad.any()


def test_an_embedding_that_tells_nothing_has_the_loss_of_chance() -> None:
    maps = torch.zeros(1, 16, 16, dtype=torch.int64)
    maps[:, 8:] = 1
    loss = region_contrast_loss(torch.ones(1, 3, 16, 16), maps, rng(), pixels=20)
    assert float(loss) == pytest.approx(math.log(19))


def test_no_fellows_no_loss() -> None:
    embedding = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = region_contrast_loss(embedding, torch.arange(4).view(1, 2, 2), rng())
    loss.backward()
    assert float(loss) == 0
    assert embedding.grad is not None
    assert embedding.grad.isfinite().all()


def test_the_generator_alone_draws_the_pixels() -> None:
    embedding, maps = torch.randn(2, 4, 16, 16), torch.randint(0, 3, (2, 32, 32))
    found = [float(region_contrast_loss(embedding, maps, rng(seed))) for seed in (5, 5, 6)]
    assert found[0] == found[1] != found[2]


def test_only_an_integer_can_be_ignored() -> None:
    with pytest.raises(ArgumentError, match=r"ignore_index must be None or an integer .*, got ignore_index=255\.0"):
        region_contrast_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4).long(), rng(), ignore_index=255.0)  # type: ignore[arg-type]


def test_shapes_that_do_not_fit_are_refused() -> None:
    maps = torch.zeros(2, 4, 4, dtype=torch.int64)
    for embedding in (torch.zeros(2, 3, 4), torch.zeros(2, 3, 1, 1)):
        with pytest.raises(ArgumentError, match=r"embedding must be \[B, D, U, V\] with at least two positions"):
            region_contrast_loss(embedding, maps, rng())
    with pytest.raises(ArgumentError, match="region_maps must be integers"):
        region_contrast_loss(torch.zeros(3, 3, 4, 4), maps, rng())
