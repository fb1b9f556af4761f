"""The figure of stability."""

import numpy as np
import pytest

from drconv.analysis.stability import ClipStability, StabilityCounter
from drconv.errors import ArgumentError
from drconv.viz.stability import stability_figure
from tests.viz.tidy import assert_tidy

RNG = np.random.default_rng(0)


def clip(num_layers: int, num_frames: int, num_regions: int = 4) -> ClipStability:
    layers = []
    for index in range(num_layers):
        counter = StabilityCounter(f"stage{index}.0.a_rather_long_name" * 3, num_regions)
        for _ in range(num_frames):
            counter.add(RNG.integers(0, num_regions, (5, 4)))
        layers.append(counter.report())
    return ClipStability(tuple(0.04 * t for t in range(num_frames)), tuple(layers))


@pytest.mark.parametrize(("layers", "frames", "regions"), [(1, 2, 1), (3, 40, 4), (12, 5, 4)])
def test_nothing_overlaps(layers: int, frames: int, regions: int) -> None:
    assert_tidy(stability_figure(clip(layers, frames, regions), title="A long title " * 12, notes=["note " * 60]))


def test_lines_are_the_numbers() -> None:
    made = clip(1, 6)
    (layer,) = made.layers
    _, time, lags = stability_figure(made, title="").axes
    steps, chance, held = time.lines
    assert list(steps.get_ydata()) == list(layer.stability[1:])
    assert list(steps.get_xdata()) == list(made.times[1:])
    assert list(chance.get_ydata()) == list(layer.chance[1:])
    assert list(held.get_ydata()) == list(layer.held)
    assert [list(line.get_ydata()) for line in lags.lines] == [list(layer.lags), list(layer.lag_chance)]


def test_one_frame_cannot_be_drawn() -> None:
    for made in (clip(1, 1), ClipStability((0.0, 1.0), ())):
        with pytest.raises(ArgumentError, match="at least one layer and two frames"):
            stability_figure(made, title="")
