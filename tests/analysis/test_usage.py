"""The use of regions over a set: counts by hand, and the same numbers however the set was split."""

import math
import random

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics.pairwise import cosine_similarity

from drconv.analysis import LayerRegions, RegionRecording, RegionUsage, region_statistics
from drconv.analysis.exact_sum import ExactSum
from drconv.analysis.usage import PRIOR_GRID, TOP_IMAGES
from drconv.errors import ArgumentError


def test_exact_sum_is_that_of_fsum_in_any_order() -> None:
    values = [random.Random(0).uniform(-1, 1) * 10.0 ** (i % 40 - 20) for i in range(200)]
    values += [5e-324, -1e308, 1e308]
    for order in (values, values[::-1], sorted(values)):
        total = ExactSum()
        for value in order:
            total.add(value)
        assert total.total == math.fsum(values)
        assert total.mean == pytest.approx(math.fsum(values) / len(values))
    assert ExactSum().mean is None


def add(usage: RegionUsage, index: int, mask: torch.Tensor, num_regions: int, filters: torch.Tensor) -> None:
    guide = torch.nn.functional.one_hot(mask, num_regions).permute(2, 0, 1)[None].float()
    statistics = region_statistics(RegionRecording([LayerRegions("a", mask[None], guide, filters)]))
    usage.add(index, f"image {index}", statistics, {"a": mask.numpy()})


FILTERS = torch.randn(3, 4, 2, 1, 1, generator=torch.Generator().manual_seed(0))


def test_counts_by_hand() -> None:
    usage = RegionUsage()
    half = torch.zeros(4, 6, dtype=torch.int64)
    half[2:] = 1
    add(usage, 0, half, 3, FILTERS)
    add(usage, 1, torch.zeros(2, 2, dtype=torch.int64), 3, FILTERS)
    (layer,) = usage.report().layers
    assert (layer.num_images, layer.num_regions) == (2, 3)
    assert layer.region_positions == (16, 12, 0)
    assert layer.region_share == (16 / 28, 12 / 28, 0)
    assert layer.region_images == (2, 1, 0)
    assert layer.dead == (2,)
    assert layer.image_entropy == pytest.approx(math.log(2) / 2)
    # The guide is one at the region and zero elsewhere.
    margin = (math.e - 1) / (math.e + 2)
    assert layer.region_margins == (pytest.approx(margin), pytest.approx(margin), None)
    assert layer.filter_norms == pytest.approx(FILTERS.flatten(1).norm(dim=1).tolist())
    prior = np.array(layer.prior)
    top = PRIOR_GRID // 2
    assert (prior[0, :top] == 1).all()
    assert (prior[0, top:] == 0.5).all()
    assert (prior.sum(0) == 1).all(), "every place has one region on every image"
    assert layer.top_images == ((("image 1", 1.0), ("image 0", 0.5)), (("image 0", 0.5),), ())
    assert layer.verdict == "a, 2 images: 2 of 3 regions occur, as even as 2.0 equal ones; region 2 never."


def test_parts_merge_to_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(3, (5, 7), generator=generator) for _ in range(11)]
    images[3] = images[8] = images[1].clone()  # equal shares are ranked by place
    filters = [FILTERS + torch.randn(FILTERS.shape, generator=generator) for _ in images]
    whole = RegionUsage()
    parts = [RegionUsage() for _ in range(3)]
    for index, (mask, w) in enumerate(zip(images, filters, strict=True)):
        add(whole, index, mask, 3, w)
        add(parts[index % 3], index, mask, 3, w)
    merged = RegionUsage()
    for part in (parts[2], parts[0], parts[1]):
        merged.merge(part)
    assert merged.num_images == whole.num_images == 11
    assert merged.report() == whole.report(), "to the last bit"
    top = whole.report().layers[0].top_images
    assert all(len(names) == TOP_IMAGES for names in top)
    assert all(list(names) == sorted(names, key=lambda x: -x[1]) for names in top)


def test_a_layer_keeps_its_number_of_regions() -> None:
    usage = RegionUsage()
    add(usage, 0, torch.zeros(2, 2, dtype=torch.int64), 3, FILTERS)
    with pytest.raises(ArgumentError, match="got 2 in a after 3"):
        add(usage, 1, torch.zeros(2, 2, dtype=torch.int64), 2, FILTERS[:2])


def test_table_and_dict() -> None:
    usage = RegionUsage()
    add(usage, 0, torch.zeros(2, 2, dtype=torch.int64), 3, FILTERS)
    report = usage.report(("a note",))
    table = report.to_table()
    assert table.title == "Use of regions over 1 image"
    assert table.rows[0][:5] == ("a", 0, 4, 1.0, 1)
    assert table.rows[2][2:] == (0, 0.0, 0, None, pytest.approx(float(FILTERS[2].norm())), None)
    assert table.notes[0] == "a note"
    found = report.to_dict()["layers"][0]
    assert found["effective_regions"] == 1
    assert found["top_images"] == [[{"image": "image 0", "share": 1.0}], [], []]


def test_means_places_and_ranks_against_numpy() -> None:
    """Scores, filters and grids that differ from image to image, one region that never occurs, one guide with NaN."""
    generator = torch.Generator().manual_seed(1)
    usage, cases = RegionUsage(), []
    for index, grid in enumerate(((5, 7), (3, 4), (1, 1), (24, 24), (4, 4), (2, 9), (6, 6))):
        guide = torch.randn(1, 4, *grid, generator=generator)
        guide[:, 3] -= 99
        filters = torch.randn(1, 4, 3, 2, 1, 1, generator=generator)
        if index == 3:
            guide[0, :, 0, 0] = math.nan
            filters[0, 2] = math.nan
        mask = guide.argmax(1)
        recording = RegionRecording([LayerRegions("a", mask, guide, filters)])
        usage.add(index, str(index), region_statistics(recording), {"a": mask[0].numpy()})
        cases.append((mask[0].numpy(), guide[0].double().numpy(), filters[0].double().flatten(1).numpy()))
    (layer,) = usage.report().layers

    for j in range(4):
        margins = []
        for mask, guide, _ in cases:
            ordered = np.sort(softmax(guide, axis=0), axis=0)
            here = (mask == j) & np.isfinite(guide).all(0)
            if here.any():
                margins.append((ordered[-1] - ordered[-2])[here].mean())
        assert layer.region_margins[j] == (pytest.approx(np.mean(margins), rel=1e-5) if margins else None)
        norms = [np.linalg.norm(filters[j]) for *_, filters in cases]
        assert layer.filter_norms[j] == pytest.approx(np.nanmean(norms))
        for i in range(4):
            known = [f[[i, j]] for *_, f in cases if np.isfinite(f[[i, j]]).all()]
            cosines = [cosine_similarity(pair)[0, 1] for pair in known]
            assert layer.filter_cosines[i][j] == pytest.approx(np.mean(cosines))
        shares = [(float((mask == j).mean()), -index) for index, (mask, *_) in enumerate(cases) if (mask == j).any()]
        ranked = [(str(-index), share) for share, index in sorted(shares, reverse=True)][:TOP_IMAGES]
        assert [(name, pytest.approx(share)) for name, share in layer.top_images[j]] == ranked
        for u, v in ((0, 0), (11, 5), (23, 23)):
            # The position of a mask that holds the middle of the cell.
            there = [mask[int((u + 0.5) / 24 * len(mask)), int((v + 0.5) / 24 * len(mask[0]))] for mask, *_ in cases]
            assert layer.prior[j][u][v] == pytest.approx(np.mean(np.array(there) == j))
    assert layer.dead == (3,)
    assert layer.region_images == tuple(sum((mask == j).any() for mask, *_ in cases) for j in range(4))


def test_scores_that_are_not_finite_are_counted_and_said() -> None:
    guide = torch.zeros(1, 2, 3, 4)
    guide[0, 0, 0, :2] = math.nan
    layer = LayerRegions("a", guide.argmax(1), guide, FILTERS[:2])
    statistics = region_statistics(RegionRecording([layer]))
    assert "scores are not finite at 2 positions" in statistics.layers[0].verdict
    whole, part = RegionUsage(), RegionUsage()
    whole.add(0, "first", statistics, {"a": guide.argmax(1)[0].numpy()})
    part.add(1, "second", statistics, {"a": guide.argmax(1)[0].numpy()})
    assert whole.report().layers[0].verdict.startswith("a, 1 image: ")
    whole.merge(part)
    (found,) = whole.report().layers
    assert found.unscored == found.to_dict()["unscored"] == 4
    assert "scores are not finite at 4 positions, whose region means nothing" in found.verdict
