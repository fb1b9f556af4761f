"""Several images side by side."""

import numpy as np
import pytest

from drconv.errors import ArgumentError
from drconv.viz import GridColumn, grid_figure, region_colors
from tests.viz.tidy import assert_tidy

RNG = np.random.default_rng(0)


def column(name: str, height: int, width: int, layers: dict[str, int]) -> GridColumn:
    pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return GridColumn(name, pixels, {layer: RNG.integers(0, m, (5, 7)) for layer, m in layers.items()})


@pytest.mark.parametrize(
    "layers", [{"a": 8}, {"a": 1, "b": 20, "c": 3}, {f"stage{i}.0": 4 for i in range(12)}], ids=len
)
@pytest.mark.parametrize("shapes", [[(40, 40)], [(20, 90), (90, 20), (5, 500)], [(30, 40)] * 16], ids=len)
def test_nothing_overlaps(shapes: list[tuple[int, int]], layers: dict[str, int]) -> None:
    columns = [column(f"a rather long name {i} of a photo.jpg", *shape, layers) for i, shape in enumerate(shapes)]
    figure = grid_figure(columns, layers, title="A long title " * 9, notes=["note " * 60])
    assert_tidy(figure)
    assert sum(ax.get_label() == "overlay" for ax in figure.axes) == len(shapes) * len(layers)


def test_a_region_has_its_colour_on_every_image() -> None:
    one, other = (GridColumn(n, np.zeros((4, 4, 3), np.uint8), {"a": np.array([[v]])}) for n, v in (("x", 2), ("y", 5)))
    figure = grid_figure([one, other], {"a": 6}, title="")
    shown = [ax.images[1].get_array()[0, 0] for ax in figure.axes if ax.get_label() == "overlay"]
    np.testing.assert_allclose([color[:3] for color in shown], region_colors(6)[[2, 5]])
    assert [color[3] for color in shown] == [0.6, 0.6]


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(ArgumentError, match="at least one image"):
        grid_figure([], {"a": 1}, title="")
    with pytest.raises(ArgumentError, match="got 'x' without 'b'"):
        grid_figure([column("x", 4, 4, {"a": 2})], {"a": 2, "b": 2}, title="")
