"""The figure of a set: every region has a bar and a map, and nothing overlaps or leaves the page."""

import pytest

from drconv.analysis import LayerUsage, UsageReport
from drconv.analysis.usage import PRIOR_GRID
from drconv.errors import ArgumentError
from drconv.viz import usage_figure
from drconv.viz.palette import region_color
from tests.viz.tidy import assert_tidy


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


@pytest.mark.parametrize("counts", [(8,), (1, 2), (8, 16, 9), (4,) * 12], ids=str)
def test_nothing_overlaps_or_leaves_the_page(counts: tuple[int, ...]) -> None:
    usage = UsageReport(tuple(layer(f"stage{i}.0.a_rather_long_name.branch2.0", c) for i, c in enumerate(counts)))
    figure = usage_figure(usage, title="A title that is rather long " * 4, notes=["note " * 60])
    assert_tidy(figure)
    assert sum(ax.get_label() == "prior" for ax in figure.axes) == sum(counts)


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
