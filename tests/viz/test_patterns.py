"""Hatches: without any colour each of them can be told from every other."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from drconv.analysis.statistics import RegionStatistics
from drconv.viz import region_figure
from drconv.viz.patterns import region_pattern
from tests.viz.test_figure import assert_tidy, axes, layer_of

MASK = np.arange(16).reshape(4, 4)


def draw(mask, count):
    statistics = RegionStatistics((layer_of("a", mask, count),))
    pixels = np.full((60, 60, 3), 128, np.uint8)
    return region_figure(pixels, statistics, {"a": mask}, title="t", patterns=True)


def grey_cells(figure, rows):
    """Return the pixels of each position of a square map, grey, without its border."""
    figure.set_dpi(200)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., :3] @ np.array([0.2126, 0.7152, 0.0722])
    box = axes(figure, "map")[0].get_window_extent()
    side = box.width / rows
    for u, v in itertools.product(range(rows), repeat=2):
        x, y = int(box.x0 + v * side), int(drawn.shape[0] - box.y1 + u * side)
        yield drawn[y + 4 : y + int(side) - 3, x + 4 : x + int(side) - 3]


def likeness(a, b):
    """Return the largest correlation of two pictures over all shifts."""
    a, b = a - a.mean(), b - b.mean()
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return 0.0 if norm < 1e-6 else np.fft.irfft2(np.fft.rfft2(a).conj() * np.fft.rfft2(b), a.shape).max() / norm


@pytest.fixture
def one_color(monkeypatch):
    monkeypatch.setattr("drconv.viz.figure.region_colors", lambda count: np.full((count, 3), 0.8))
    monkeypatch.setattr("drconv.viz.patterns.region_color", lambda index: (0.8, 0.8, 0.8))


def test_every_pattern_differs_in_grey(one_color):
    cells = list(grey_cells(draw(MASK, 16), 4))
    assert cells[0].std() < 1, "the first one is plain"
    for j, k in itertools.combinations(range(16), 2):
        assert likeness(cells[j], cells[k]) < 0.8, (region_pattern(j), region_pattern(k))
    assert min(cell.std() for cell in cells[1:]) > 15


def test_one_pattern_is_alike_wherever_it_lies(one_color):
    for region in range(1, 16):
        cells = list(grey_cells(draw(np.full((2, 2), region), 16), 2))
        assert min(likeness(cells[0], cell) for cell in cells[1:]) > 0.8, region_pattern(region)


def test_every_position_is_covered_once():
    mask = np.random.default_rng(0).integers(0, 5, (6, 7))
    patches = [p for p in axes(draw(mask, 5), "map")[0].patches if isinstance(p, PathPatch)]
    assert [p.get_hatch() for p in patches] == [region_pattern(j) for j in range(1, 5)]
    for j, patch in enumerate(patches, 1):
        runs = [Path(corners) for corners in patch.get_path().vertices.reshape(-1, 5, 2)]
        for (u, v), region in np.ndenumerate(mask):
            assert sum(run.contains_point((v + 0.5, u + 0.5)) for run in runs) == (region == j)


@pytest.mark.parametrize("count", [1, 8, 20])
def test_nothing_overlaps_with_patterns(count):
    assert_tidy(draw(np.arange(4).reshape(2, 2) % count, count))


def test_without_patterns_there_is_no_hatch():
    statistics = RegionStatistics((layer_of("a", MASK, 16),))
    figure = region_figure(np.zeros((60, 60, 3), np.uint8), statistics, {"a": MASK}, title="t")
    assert not axes(figure, "map")[0].patches
    assert all(patch.get_hatch() is None for patch in axes(figure, "legend")[0].patches)
