"""What rounds to zero has no sign, wherever people read it; a number that does not keeps its own."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from drconv.analysis import LayerRegions, LayerStatistics, RegionRecording, region_statistics
from drconv.analysis.agreement import LabelAgreement, adjusted_mutual_information
from drconv.analysis.stability import ClipStability, LayerStability
from drconv.report import Column, Kind, Table
from drconv.table_html import table_html
from drconv.viz.page.classes import class_table
from drconv.viz.page.numbers import layer_facts
from drconv.viz.stability import stability_figure
from drconv_cli.commands.compare import _match
from drconv_cli.render import FORMATS
from drconv_cli.render.cells import format_cell


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (-0.0, "number", "0"),
        (-0.0004, "share", "0.0 %"),
        (-0.004, "ratio", "0.00x"),
        (-0.004, "number", "-0.004"),
        (-0.0006, "share", "-0.1 %"),
    ],
)
def test_cells(value: float, kind: Kind, text: str) -> None:
    assert format_cell(value, kind) == text
    table = Table("t", (Column("c", kind),), ((value,),))
    for name in ("table", "markdown", "latex"):
        assert ("-0" in FORMATS[name].render(table, {}, None)) == text.startswith("-0"), name
    assert repr(value) in FORMATS["csv"].render(table, {}, None), "raw numbers stay as they are"


@pytest.mark.parametrize(
    ("value", "kind", "text"), [(-0.0, "number", ">0<"), (-0.0004, "share", ">0.0%<"), (-0.004, "number", ">-0.004<")]
)
def test_cells_of_a_notebook(value: float, kind: Kind, text: str) -> None:
    assert text in table_html(Table("t", (Column("c", kind),), ((value,),)))


def labelled(score: float) -> LayerStatistics:
    """Return a layer with one region, whose agreements are a number."""
    mask = torch.zeros(1, 2, 2, dtype=torch.long)
    recorded = LayerRegions("a", mask, torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 1, 1, 1))
    (layer,) = region_statistics(RegionRecording([recorded])).layers
    return replace(layer, agreement=score, labels=LabelAgreement(score, score, (0,), ((4,),)))


@pytest.mark.parametrize(
    ("text", "shown", "kept"),
    [
        (lambda layer: layer.verdict, "NMI 0.00, ARI 0.00.", "NMI -0.02, ARI -0.02."),
        (lambda layer: class_table(layer).scores, "NMI 0.0000, ARI 0.0000", "NMI -0.0200, ARI -0.0200"),
        (lambda layer: layer_facts(layer)[-1], "layer before: 0.0000", "layer before: -0.0200"),
        (lambda layer: layer_facts(layer)[1], "entropy 0.0000 nats", "entropy 0.0000 nats"),
    ],
    ids=["verdict", "classes of the page", "facts of the page", "entropy of one region"],
)
def test_scores_of_a_layer(text: Callable[[LayerStatistics], str], shown: str, kept: str) -> None:
    for tiny in (-0.0, -0.00001):
        assert text(labelled(tiny)).endswith(shown)
    assert text(labelled(-0.02)).endswith(kept)


@pytest.mark.parametrize(("score", "text"), [(0.4999, "above chance 0.00"), (0.49, "above chance -0.02")])
def test_stability_about_that_of_chance(score: float, text: str) -> None:
    counted = LayerStability("a", (2, 2), 2, (None, score), (None, 0.5), (1.0, 1.0), (score,), (0.5,))
    figure = stability_figure(ClipStability((0.0, 1.0), (counted,)), title="")
    assert any(shown.get_text().endswith(text) for shown in figure.texts)


def test_captions_of_a_comparison() -> None:
    captions = []
    for low, high in ((-0.004, 0.0), (-0.02, -0.006)):
        masks = masks_with_agreement(low, high)
        found = [
            SimpleNamespace(
                statistics=SimpleNamespace(layers=[SimpleNamespace(name="a", num_regions=3, unscored=0)]),
                guided_masks={"a": mask},
                image=SimpleNamespace(pixels=np.zeros((2, 2, 3), np.uint8)),
            )
            for mask in masks
        ]
        captions.append(_match(*found, "a", "a", "images", ("A", "B"))[1].result)
    assert captions[0].endswith("AMI 0.00")
    assert captions[1].endswith(("AMI -0.01", "AMI -0.02"))


def masks_with_agreement(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Return unrelated masks whose adjusted mutual information happens to lie between two numbers."""
    random = np.random.default_rng(0)
    for _ in range(200):
        first, second = random.integers(0, 3, (2, 9, 9))
        if low < adjusted_mutual_information(first, second) < high:
            return first, second
    raise AssertionError("no such masks")
