"""Numbers about regions, against hand-made recordings."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.metrics.pairwise import cosine_similarity

from drconv.analysis import LayerRegions, RegionRecording, region_statistics
from drconv.errors import DrconvError


def recording(filters: torch.Tensor) -> RegionRecording:
    guide = torch.zeros(1, 3, 2, 4)
    guide[:, 2, 0] = 1
    guide[:, 1, 1, 0] = 1
    mask = guide.argmax(1)
    return RegionRecording([LayerRegions("a.b", mask, guide, filters)])


FILTERS = torch.tensor([[3.0, 4.0], [0.0, 2.0], [-6.0, -8.0]]).view(1, 3, 1, 2, 1, 1)


def test_shares_norms_and_cosines() -> None:
    (layer,) = region_statistics(recording(FILTERS)).layers
    assert (layer.name, layer.grid, layer.num_regions, layer.num_present) == ("a.b", (2, 4), 3, 3)
    assert layer.region_positions == (3, 1, 4)
    assert layer.region_share == (3 / 8, 1 / 8, 4 / 8)
    assert layer.filter_norms == pytest.approx((5, 2, 10))
    expected = [[1, 0.8, -1], [0.8, 1, -0.8], [-1, -0.8, 1]]
    for row, wanted in zip(layer.filter_cosines, expected, strict=True):
        assert row == pytest.approx(wanted)


def test_shared_filters_count_once() -> None:
    shared = region_statistics(recording(FILTERS[0])).layers[0]
    assert shared == region_statistics(recording(FILTERS)).layers[0]


def test_a_zero_filter_has_no_direction_and_nan_is_none() -> None:
    filters = FILTERS.clone()
    filters[:, 1] = 0
    layer = region_statistics(recording(filters)).layers[0]
    assert layer.filter_norms[1] == 0
    assert layer.filter_cosines[1] == (None, None, None)
    filters[:, 0] = math.nan
    layer = region_statistics(recording(filters)).layers[0]
    assert layer.filter_norms[0] is None
    assert layer.filter_cosines[0][2] is None
    assert layer.filter_cosines[2][2] == pytest.approx(1)


def test_a_batch_sums_positions_and_averages_filters() -> None:
    one = recording(FILTERS).layers[0]
    pair = LayerRegions(
        "a.b", one.guided_mask.repeat(2, 1, 1), one.guided_feature.repeat(2, 1, 1, 1), torch.cat((FILTERS, FILTERS * 3))
    )
    layer = region_statistics(RegionRecording([pair])).layers[0]
    assert layer.region_positions == (6, 2, 8)
    assert layer.filter_norms == pytest.approx((10, 4, 20))


def test_norms_and_cosines_of_a_batch_against_scikit_learn() -> None:
    filters = torch.randn(3, 5, 4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    guide = torch.zeros(3, 5, 2, 2)
    (layer,) = region_statistics(RegionRecording([LayerRegions("a", guide.argmax(1), guide, filters)])).layers
    flat = filters.double().flatten(2).numpy()
    assert layer.filter_norms == pytest.approx(np.linalg.norm(flat, axis=2).mean(0))
    np.testing.assert_allclose(layer.filter_cosines, cosine_similarity(flat.mean(0)), atol=1e-12)


@pytest.mark.parametrize("grid", [(1, 1), (9, 7)], ids=str)
@pytest.mark.parametrize("num_regions", [1, 3, 8])
def test_shares_and_entropy_against_numpy_and_scipy(grid: tuple[int, int], num_regions: int) -> None:
    """The last region of several never occurs, and scores of a corner are not finite."""
    guide = torch.randn(2, num_regions, *grid, generator=torch.Generator().manual_seed(0))
    if num_regions > 1:
        guide[:, -1] = -99
    guide[0, 0, 0, 0] = math.inf
    layer = LayerRegions("a", guide.argmax(1), guide, torch.ones(num_regions, 1, 1, 1, 1))
    (found,) = region_statistics(RegionRecording([layer]), full=True).layers
    counts = np.bincount(guide.numpy().argmax(1).ravel(), minlength=num_regions)
    assert found.region_positions == tuple(counts)
    assert found.region_share == pytest.approx(counts / counts.sum())
    assert sum(found.region_share) == pytest.approx(1)
    assert found.entropy == pytest.approx(entropy(counts), abs=1e-12)
    assert found.effective_regions == pytest.approx(math.exp(entropy(counts)))
    assert found.dead == tuple(np.flatnonzero(counts == 0))
    assert found.unscored == 1
    assert found.shapes is not None
    sizes = found.shapes.component_sizes
    assert [size is None for size in sizes] == [count == 0 for count in counts]


def test_table_names_the_nearest_other_filter() -> None:
    table = region_statistics(recording(FILTERS)).to_table()
    rows = [dict(zip((c.name for c in table.columns), row, strict=True)) for row in table.rows]
    assert [row["nearest filter"] for row in rows] == [1, 0, 1]
    assert rows[0]["cosine"] == pytest.approx(0.8)
    assert rows[0]["grid"] == "2x4"


def test_dict_is_plain_values() -> None:
    found = region_statistics(recording(FILTERS)).to_dict()["layers"][0]
    assert found["region_positions"] == [3, 1, 4]
    assert all(type(v) is int for v in found["region_positions"])
    assert len(found["filter_cosines"]) == 3


def mask_recording(mask: torch.Tensor, num_regions: int, scale: float = 1.0) -> RegionRecording:
    """Return a recording with the given masks `[B, U, V]`, scores of `scale` for the winner, and zero filters."""
    guide = scale * torch.nn.functional.one_hot(mask, num_regions).permute(0, 3, 1, 2).float()
    return RegionRecording([LayerRegions("a", mask, guide, torch.zeros(num_regions, 1, 1, 1, 1))])


MASK = torch.tensor([[[0, 0, 1, 1], [0, 2, 1, 0], [1, 1, 1, 0]]])


def test_margins_are_of_the_softmax_and_means_over_each_region() -> None:
    guide = torch.tensor([[0.0, 2.0, 1.0], [1.0, 0.0, 1.5], [-1.0, 0.5, 1.0]]).t().reshape(1, 3, 1, 3)
    layer = LayerRegions("a", guide.argmax(1), guide, torch.zeros(3, 1, 1, 1, 1))
    (found,) = region_statistics(RegionRecording([layer])).layers
    p = [sorted(math.exp(v) / sum(math.exp(x) for x in row) for v in row) for row in guide[0, :, 0].t().tolist()]
    margins = [row[-1] - row[-2] for row in p]
    regions = guide.argmax(1).flatten().tolist()
    for j in range(3):
        of_region = [m for m, r in zip(margins, regions, strict=True) if r == j]
        expected = sum(of_region) / len(of_region) if of_region else None
        assert found.region_margins[j] == pytest.approx(expected)
    assert found.unscored == 0


def test_scores_that_are_not_finite_have_no_margin() -> None:
    guide = torch.zeros(1, 2, 1, 3)
    guide[0, 1, 0] = torch.tensor([1.0, math.nan, math.inf])
    layer = LayerRegions("a", guide.argmax(1), guide, torch.zeros(2, 1, 1, 1, 1))
    (found,) = region_statistics(RegionRecording([layer])).layers
    assert found.unscored == 2
    assert found.region_margins == (None, pytest.approx(math.tanh(0.5)))


def test_entropy_dead_and_rare() -> None:
    mask = torch.zeros(1, 10, 30, dtype=torch.int64)
    mask[0, 0, :2] = 2
    mask[0, 5:] = 3
    (found,) = region_statistics(mask_recording(mask, 5)).layers
    shares = [148 / 300, 2 / 300, 150 / 300]
    assert found.entropy == pytest.approx(-sum(s * math.log(s) for s in shares))
    assert found.effective_regions == pytest.approx(math.exp(found.entropy))
    assert (found.dead, found.rare) == ((1, 4), (2,))
    assert found.verdict == (
        "a: 3 of 5 regions occur, as even as 2.1 equal ones; region 2 on less than 1%; regions 1 and 4 never."
    )


def test_one_region_only() -> None:
    (found,) = region_statistics(mask_recording(torch.zeros(1, 1, 1, dtype=torch.int64), 1), full=True).layers
    assert (found.entropy, found.effective_regions, found.region_margins) == (0, 1, (1.0,))
    assert found.shapes is not None
    assert found.shapes.to_dict() == {
        "components": [1], "component_sizes": [1.0], "boundary_lengths": [0], "boundary_share": None,
    }  # fmt: skip
    assert found.verdict == "a: 1 of 1 regions occur."


def test_shapes_by_hand() -> None:
    (found,) = region_statistics(mask_recording(MASK, 4), full=True).layers
    # 0 0 1 1
    # 0 2 1 0
    # 1 1 1 0
    shapes = found.shapes
    assert shapes is not None
    assert shapes.components == (2, 1, 1, 0)
    assert shapes.component_sizes == (2.5, 6.0, 1.0, None)
    assert shapes.boundary_lengths == (7, 7, 4, 0)
    assert shapes.boundary_share == pytest.approx(9 / 17)


def test_shapes_of_a_batch_are_sums() -> None:
    one = region_statistics(mask_recording(MASK, 4), full=True).layers[0].shapes
    two = region_statistics(mask_recording(MASK.repeat(2, 1, 1), 4), full=True).layers[0].shapes
    assert one is not None
    assert two is not None
    assert two.components == tuple(2 * c for c in one.components)
    assert two.component_sizes == one.component_sizes
    assert two.boundary_share == one.boundary_share


def test_agreement_with_the_layer_before_is_that_of_scikit_learn() -> None:
    torch.manual_seed(0)
    fine, coarse = torch.randint(3, (2, 6, 4)), torch.randint(4, (2, 3, 2))
    layers = [*mask_recording(fine, 3).layers, *mask_recording(coarse, 4).layers]
    first, second = region_statistics(RegionRecording(layers), full=True).layers
    large = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2)
    expected = [adjusted_mutual_info_score(a.flatten(), b.flatten()) for a, b in zip(fine, large, strict=True)]
    assert first.agreement is None
    assert second.agreement == pytest.approx(sum(expected) / 2)


def test_layers_that_divide_alike_agree() -> None:
    layers = [*mask_recording(MASK, 4).layers, *mask_recording((MASK + 1) % 4, 4).layers]
    assert region_statistics(RegionRecording(layers), full=True).layers[1].agreement == pytest.approx(1)


def test_filters_against_numpy() -> None:
    torch.manual_seed(0)
    filters = torch.randn(4, 3, 5, 2, 3, 3)
    guide = torch.zeros(4, 3, 1, 1)
    layer = LayerRegions("a", guide.argmax(1), guide, filters)
    found = region_statistics(RegionRecording([layer]), full=True).layers[0].filters
    assert found is not None
    mean = filters.double().mean(0).numpy()
    for j in range(3):
        spectrum = np.linalg.svd(mean[j].reshape(5, -1), compute_uv=False)
        assert found.singular_values[j] == pytest.approx(spectrum)
        assert found.effective_ranks[j] == pytest.approx(math.exp(entropy(spectrum / spectrum.sum())))
        moved = [np.linalg.norm(w - mean[j]) ** 2 for w in filters.double().numpy()[:, j]]
        assert found.movements[j] == pytest.approx((sum(moved) / 4) ** 0.5 / np.linalg.norm(mean[j]))
        for i in range(3):
            norms = np.linalg.norm(mean[i]), np.linalg.norm(mean[j])
            assert found.distances[i][j] == pytest.approx(np.linalg.norm(mean[i] - mean[j]) / np.mean(norms))


def test_filters_that_are_zero_or_not_finite() -> None:
    filters = torch.randn(1, 3, 2, 2, 1, 1)
    filters[0, 1], filters[0, 2] = 0, math.nan
    guide = torch.zeros(1, 3, 1, 1)
    layer = LayerRegions("a", guide.argmax(1), guide, filters)
    found = region_statistics(RegionRecording([layer]), full=True).layers[0].filters
    assert found is not None
    assert found.effective_ranks[1:] == (None, None)
    assert found.singular_values[1:] == ((0.0, 0.0), ())
    assert found.distances[0] == (0, 2, None)
    assert found.movements == (None, None, None)


def test_regions_that_share_one_filter() -> None:
    base, other = torch.randn(1, 1, 4, 3, 1, 1), torch.randn(1, 1, 4, 3, 1, 1)
    longer = 2 * base
    filters = torch.cat((base, other, base * 1.01, base, longer, other), 1)
    guide = torch.zeros(1, 6, 1, 1)
    layer = LayerRegions("a", guide.argmax(1), guide, filters)
    (found,) = region_statistics(RegionRecording([layer])).layers
    assert [group for group, _ in found.redundant] == [(0, 2, 3), (1, 5)], "a longer filter is another filter"
    assert all(cosine == pytest.approx(1) for _, cosine in found.redundant)
    assert found.verdict.endswith(
        "; regions 0, 2 and 3 share one filter, cosine 1.000; regions 1 and 5 share one filter, cosine 1.000."
    )


def test_full_statistics_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    monkeypatch.delitem(sys.modules, "drconv.analysis.agreement", raising=False)
    layers = mask_recording(MASK, 4).layers * 2
    with pytest.raises(DrconvError, match=r"there is no sklearn.*pip install 'drconv\[viz\]'"):
        region_statistics(RegionRecording(layers), full=True)


def test_dict_of_full_statistics_has_every_number() -> None:
    layers = mask_recording(MASK, 4).layers * 2
    found = region_statistics(RegionRecording(layers), full=True).to_dict()["layers"][1]
    assert {"entropy", "effective_regions", "dead", "rare", "redundant", "verdict", "shapes", "filters"} <= set(found)
    assert found["agreement"] == pytest.approx(1)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
