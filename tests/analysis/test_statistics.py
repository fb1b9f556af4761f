"""Numbers about regions, against hand-made recordings."""

import math

import pytest
import torch

from drconv.analysis import LayerRegions, RegionRecording, region_statistics


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
