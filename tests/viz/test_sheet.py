"""The contact sheet: maps in the regions' colours, every region named, nothing overlaps or leaves the page."""

import numpy as np
import pytest

from drconv.errors import ArgumentError
from drconv.viz import SheetImage, sheet_figure
from drconv.viz.palette import region_color
from tests.viz.tidy import assert_tidy


def picture(names: tuple[str, ...]) -> SheetImage:
    region_map = np.arange(16).reshape(4, 4) % len(names)
    return SheetImage(np.full((4, 4, 3), 128, np.uint8), region_map, names)


def test_nothing_overlaps_or_leaves_the_page() -> None:
    images = [picture(("honeycomb", "labyrinth", "terraces", "pebbles", "crackle")[: 2 + i % 4]) for i in range(7)]
    figure = sheet_figure(images, columns=3, title="A title " * 20, notes=["note " * 50, "another"])
    assert_tidy(figure)
    assert [ax.get_label() for ax in figure.axes] == ["image", "regions"] * 7


def test_maps_have_the_regions_colours_and_names() -> None:
    figure = sheet_figure([picture(("bars", "dots", "wall"))], columns=1, title="t")
    shown = np.asarray(figure.axes[1].images[0].get_array())
    assert shown[0, 2] == pytest.approx(region_color(2))
    assert [text.get_text() for text in figure.texts] == ["t", "bars", "dots", "wall"]


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(ArgumentError, match="got 0 images and 1 columns"):
        sheet_figure([], columns=1, title="")
    nameless = picture(("bars", "dots"))._replace(names=("bars",))
    with pytest.raises(ArgumentError, match="got region 1 and the names bars"):
        sheet_figure([nameless], columns=1, title="")
