"""The figure of a set: every region has a bar and a map, and nothing overlaps or leaves the page."""

import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from drconv.analysis import LayerUsage, UsageReport
from drconv.analysis.usage import PRIOR_GRID
from drconv.errors import ArgumentError
from drconv.viz import usage_figure
from drconv.viz.palette import region_color

Box = tuple[float, ...]
"""Left, bottom, right and top, in pixels."""


def layer(name: str, num_regions: int) -> LayerUsage:
    positions = (*range(1, num_regions), 0)
    total = max(1, sum(positions))
    line = tuple(j / PRIOR_GRID for j in range(PRIOR_GRID))
    return LayerUsage(
        name,
        1234,
        positions,
        tuple(p / total for p in positions),
        tuple(1234 * (p > 0) for p in positions),
        0.5,
        (0.5,) * num_regions,
        (1.0,) * num_regions,
        ((0.0,) * num_regions,) * num_regions,
        (((line,) * PRIOR_GRID),) * num_regions,
        ((("x.jpg", 0.5),),) * num_regions,
    )


def boxes(figure: Figure) -> list[tuple[str, Box]]:
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [text for text in [*figure.texts, *(t for ax in figure.axes for t in ax.texts)] if text.get_text()]
    named = [(str(ax.get_label()), ax) for ax in figure.axes] + [(f"text {text.get_text()}", text) for text in texts]
    return [(name, tuple(map(float, item.get_window_extent(renderer).extents))) for name, item in named]


def shared(one: Box, other: Box) -> bool:
    """Whether two boxes share more than a pixel."""
    return all(min(one[i + 2], other[i + 2]) - max(one[i], other[i]) > 1 for i in (0, 1))


@pytest.mark.parametrize("counts", [(8,), (1, 2), (8, 16, 9), (4,) * 12], ids=str)
def test_nothing_overlaps_or_leaves_the_page(counts: tuple[int, ...]) -> None:
    usage = UsageReport(tuple(layer(f"stage{i}.0.a_rather_long_name.branch2.0", c) for i, c in enumerate(counts)))
    figure = usage_figure(usage, title="A title that is rather long " * 4, notes=["note " * 60])
    width, height = figure.get_size_inches() * figure.dpi
    found = boxes(figure)
    for name, (left, bottom, right, top) in found:
        assert left >= -1, name
        assert bottom >= -1, name
        assert right <= width + 1, name
        assert top <= height + 1, name
    texts = [item for item in found if item[0].startswith("text")]
    maps = [item for item in found if item[0] == "prior"]
    assert len(maps) == sum(counts)
    for group in (texts, maps):
        for (one, here), (other, there) in itertools.combinations(group, 2):
            assert not shared(here, there), f"{one!r} overlaps {other!r}"


def test_bars_have_the_regions_colours_and_shares() -> None:
    figure = usage_figure(UsageReport((layer("a", 3),)), title="t")
    (bars,) = [ax for ax in figure.axes if ax.get_label() == "shares"]
    widths = [patch.get_width() for patch in bars.patches]  # type: ignore[attr-defined]
    assert widths == pytest.approx([widths[1] / 2, widths[1], 0])
    assert [patch.get_facecolor()[:3] for patch in bars.patches] == [region_color(j) for j in range(3)]
    assert "never" in [text.get_text() for text in bars.texts]


def test_no_layer_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="at least one layer"):
        usage_figure(UsageReport(()), title="")
