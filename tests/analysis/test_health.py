"""Use of regions counted batch by batch, and intervals of shares."""

from math import log

import pytest
import torch

from drconv.analysis import LayerRegions, RegionCounts, RegionRecording, wilson_interval


def recording(masks: torch.Tensor, num_regions: int = 3) -> RegionRecording:
    scores = torch.nn.functional.one_hot(masks, num_regions).permute(0, 3, 1, 2).float()
    return RegionRecording([LayerRegions("layer", masks, scores, torch.zeros(1))])


def test_counts_of_parts_merge_to_those_of_the_whole() -> None:
    masks = torch.randint(0, 2, (7, 4, 5))
    whole, first, second = RegionCounts(), RegionCounts(), RegionCounts()
    whole.add(recording(masks))
    first.add(recording(masks[:3]))
    second.add(recording(masks[3:5]))
    second.add(recording(masks[5:]))
    first.merge(second)
    assert first.report() == whole.report()
    (layer,) = whole.report()
    assert layer.region_positions == (int((masks == 0).sum()), int((masks == 1).sum()), 0)
    assert (layer.num_images, layer.dead) == (7, (2,))


def test_what_the_numbers_mean() -> None:
    masks = torch.zeros(2, 10, 20, dtype=torch.int64)
    masks[0, :, :10] = 1
    masks[1, 0, 0] = 2  # 0.5 % of the image: it occurs, and does not count as in use there
    counts = RegionCounts()
    counts.add(recording(masks))
    (layer,) = counts.report()
    assert layer.region_positions == (299, 100, 1)
    assert layer.regions_per_image == (2 + 1) / 2
    assert layer.dead == ()
    shares = [299 / 400, 100 / 400, 1 / 400]
    assert layer.entropy == pytest.approx(-sum(share * log(share) for share in shares))
    assert layer.to_dict()["effective_regions"] == pytest.approx(2.718281828**layer.entropy)


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [(8, 10, 0.4901625, 0.9433178), (0, 10, 0.0, 0.2775328), (10, 10, 0.7224672, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilson_interval(right: int, of: int, low: float, high: float) -> None:
    assert wilson_interval(right, of) == pytest.approx((low, high), abs=1e-6)
