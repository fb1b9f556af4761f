"""The filters of regions as a figure, and the order in which their cosines stand."""

import math

import numpy as np
import pytest
import torch

from drconv.analysis import LayerRegions, RegionRecording, RegionStatistics, region_statistics
from drconv.analysis.order import similarity_order
from drconv.errors import ArgumentError
from drconv.viz.filters import filter_figure
from drconv.viz.palette import region_color
from tests.viz.tidy import assert_tidy


def statistics(counts: tuple[int, ...], full: bool = True, spoil: bool = False) -> RegionStatistics:
    torch.manual_seed(0)
    layers = []
    for index, m in enumerate(counts):
        guide = torch.randn(1, m, 4, 4)
        guide[:, -1] -= 9  # the last region does not occur, if there is another
        filters = torch.randn(1, m, 6, 5, 1, 1)
        if spoil:
            filters[:, 0], filters[:, -1] = math.nan, 0
        layers.append(LayerRegions(f"stage{index}.0.branch2.0", guide.argmax(1), guide, filters))
    return region_statistics(RegionRecording(layers), full)


@pytest.mark.parametrize("counts", [(8,), (1,), (2, 16, 40), (4,) * 12], ids=str)
def test_nothing_overlaps(counts: tuple[int, ...]) -> None:
    assert_tidy(filter_figure(statistics(counts), title="A long title " * 12, notes=["note " * 60]))


def test_filters_that_are_zero_or_not_finite() -> None:
    figure = filter_figure(statistics((4,), spoil=True), title="t")
    assert_tidy(figure)
    (norms,) = [ax for ax in figure.axes if ax.get_label() == "norms"]
    assert "not finite" in [text.get_text() for text in norms.texts]
    (spectra,) = [ax for ax in figure.axes if ax.get_label() == "spectra"]
    assert len(spectra.lines) == 2


def test_spectra_and_norms_are_those_of_the_statistics() -> None:
    found = statistics((3,))
    figure = filter_figure(found, title="t")
    cosines, norms, spectra = figure.axes
    (layer,) = found.layers
    assert layer.filters is not None
    assert [bar.get_width() for bar in norms.patches] == pytest.approx(layer.filter_norms)
    for j, line in enumerate(spectra.lines):
        largest = layer.filters.singular_values[j][0]
        assert line.get_ydata() == pytest.approx([v / largest for v in layer.filters.singular_values[j]])
        assert line.get_color() == region_color(j)
    order = similarity_order(layer.filter_cosines)
    np.testing.assert_allclose(cosines.images[0].get_array(), np.array(layer.filter_cosines)[np.ix_(order, order)])


def test_similar_filters_become_neighbours() -> None:
    cosines = np.eye(5)
    for i, j in ((0, 3), (1, 4)):
        cosines[i, j] = cosines[j, i] = 0.9
    order = similarity_order(cosines.tolist())
    assert sorted(order) == [0, 1, 2, 3, 4]
    for i, j in ((0, 3), (1, 4)):
        assert abs(order.index(i) - order.index(j)) == 1
    assert similarity_order([[1.0, None], [None, None]]) == [0, 1]
    assert sorted(similarity_order([[None] * 3] * 3)) == [0, 1, 2]


def test_only_full_statistics_can_be_drawn() -> None:
    with pytest.raises(ArgumentError, match="needs full statistics"):
        filter_figure(statistics((3,), full=False), title="")
    with pytest.raises(ArgumentError, match="needs full statistics"):
        filter_figure(RegionStatistics(()), title="")
