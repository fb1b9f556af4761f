"""Every statistic where it is most likely to break, against another way of computing it."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from drconv.analysis import LayerRegions, RegionRecording, RegionUsage, region_statistics
from drconv.analysis.agreement import adjusted_mutual_information, label_agreement
from drconv.analysis.matching import match_masks
from drconv.analysis.shapes import shape_statistics

RNG = np.random.default_rng(0)
ONE = np.zeros((1, 1), np.int64)


def flooded(mask: np.ndarray, region: int) -> int:
    """Count components by filling them one by one."""
    left = {(u, v) for (u, v), r in np.ndenumerate(mask) if r == region}
    count = 0
    while left:
        count += 1
        front = [left.pop()]
        while front:
            u, v = front.pop()
            near = {(u + 1, v), (u - 1, v), (u, v + 1), (u, v - 1)} & left
            left -= near
            front += near
    return count


@pytest.mark.parametrize("shape", [(9, 7), (1, 8), (8, 1), (1, 1)], ids=str)
def test_shapes_against_filling_and_counting_edges(shape: tuple[int, int]) -> None:
    mask = RNG.integers(0, 3, shape)
    found = shape_statistics(mask[None], 4)
    edges = [((u, v), (u + du, v + dv)) for u, v in np.ndindex(shape) for du, dv in ((1, 0), (0, 1))
             if u + du < shape[0] and v + dv < shape[1]]  # fmt: skip
    for region in range(4):
        count, positions = flooded(mask, region), int((mask == region).sum())
        assert found.components[region] == count
        assert found.component_sizes[region] == (pytest.approx(positions / count) if count else None)
        crossing = sum((mask[a] == region) != (mask[b] == region) for a, b in edges)
        assert found.boundary_lengths[region] == crossing
    share = sum(mask[a] != mask[b] for a, b in edges) / len(edges) if edges else None
    assert found.boundary_share == (None if share is None else pytest.approx(share))


def test_agreement_of_one_region_and_of_one_position() -> None:
    assert adjusted_mutual_information(ONE, ONE) == 1
    assert adjusted_mutual_information(np.zeros((3, 4), np.int64), ONE) == 1
    found = label_agreement(ONE, np.full((1, 1), 7), 3)
    assert (found.nmi, found.ari, found.table) == (1, 1, ((1,), (0,), (0,)))


def test_matching_of_one_position() -> None:
    match = match_masks(ONE, np.full((1, 1), 2), 1, 3)
    assert (match.agreement, match.names[2], match.overlaps) == (1, 0, (1.0,))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_guide_that_is_not_finite_anywhere(bad: float) -> None:
    guide = torch.full((1, 3, 2, 2), bad)
    recording = RegionRecording([LayerRegions("a", guide.argmax(1), guide, torch.ones(3, 1, 1, 1, 1))])
    statistics = region_statistics(recording, full=True)
    (layer,) = statistics.layers
    assert (layer.region_positions, layer.unscored, layer.region_margins) == ((4, 0, 0), 4, (None, None, None))
    usage = RegionUsage()
    usage.add(0, "x", statistics, {"a": guide.argmax(1)[0].numpy()})
    (used,) = usage.report().layers
    assert (used.region_margins, used.dead, used.entropy) == ((None, None, None), (1, 2), 0)


def test_entropies_over_a_set_against_scipy() -> None:
    usage, masks = RegionUsage(), [RNG.integers(0, 3, shape) for shape in ((4, 5), (2, 3), (1, 1))]
    for index, mask in enumerate(masks):
        guide = torch.nn.functional.one_hot(torch.from_numpy(mask), 4).permute(2, 0, 1)[None].float()
        recording = RegionRecording([LayerRegions("a", guide.argmax(1), guide, torch.ones(4, 1, 1, 1, 1))])
        usage.add(index, str(index), region_statistics(recording), {"a": mask})
    (layer,) = usage.report().layers
    counts = [np.bincount(mask.ravel(), minlength=4) for mask in masks]
    assert layer.entropy == pytest.approx(entropy(np.sum(counts, 0)))
    assert layer.image_entropy == pytest.approx(np.mean([entropy(count) for count in counts]))
