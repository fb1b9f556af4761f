"""Two maps side by side and where they differ."""

import numpy as np
import pytest

from drconv.errors import ArgumentError
from drconv.viz import ComparisonRow, comparison_figure, region_colors
from tests.viz.tidy import assert_tidy

RNG = np.random.default_rng(0)


def row(height: int, width: int, grid: tuple[int, int], regions: int) -> ComparisonRow:
    photo = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    masks = (RNG.integers(0, regions, grid), RNG.integers(0, regions, grid))
    title = "stage2.0.a_rather_long_name.branch2.0 and another of the kind"
    return ComparisonRow(title, "39.0 % of positions agree, AMI 0.12", (photo, photo), ("A", "B"), masks, regions)


@pytest.mark.parametrize("count", [1, 3, 12])
@pytest.mark.parametrize("shape", [(40, 40), (20, 300), (300, 20)])
def test_nothing_overlaps(shape: tuple[int, int], count: int) -> None:
    rows = [row(*shape, (7, 5), regions) for regions, _ in zip((8, 1, 20) * 4, range(count), strict=False)]
    assert_tidy(comparison_figure(rows, title="A long title " * 12, notes=["note " * 60]))


def test_panels_show_the_masks_and_where_they_differ() -> None:
    made = row(30, 30, (4, 6), 3)
    first, second = made.masks
    figure = comparison_figure([made], title="")
    panels = {ax.get_label(): ax for ax in figure.axes}
    for label, mask in (("first", first), ("second", second)):
        np.testing.assert_allclose(panels[label].images[1].get_array()[..., :3], region_colors(3)[mask])
    shown = np.asarray(panels["difference"].images[1].get_array())
    red = (shown[..., 0] > shown[..., 2]) & (shown[..., 3] > 0.5)
    np.testing.assert_array_equal(red, first != second)
    assert len(panels["difference"].patches) == int((first != second).sum())


def test_names_of_layers_are_whole() -> None:
    made = row(40, 40, (7, 5), 3)
    one, other = (f"features.12.block.3.conv.1.pointwise.{name}" for name in ("first", "second"))
    long = ComparisonRow(f"{one} and {other}", made.result, made.photos, ("A", "B"), made.masks, 3)
    figure = comparison_figure([long, long], title=f"{one} and {other}: regions of drconv_shufflenet_v2_demo")
    assert_tidy(figure)
    words = [word.rstrip(":") for text in figure.texts for word in text.get_text().split()]
    assert (words.count(one), words.count(other)) == (3, 3)


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(ArgumentError, match="got no row"):
        comparison_figure([], title="")
    made = row(4, 4, (2, 2), 2)
    bad = ComparisonRow("", "", made.photos, ("", ""), (np.zeros((2, 2), int), np.zeros((2, 3), int)), 2)
    with pytest.raises(ArgumentError, match=r"one grid, got \[2, 2\] and \[2, 3\]"):
        comparison_figure([bad], title="")
