"""The log of a run as a figure."""

from io import BytesIO
from typing import Any

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pytest

from drconv.errors import ArgumentError
from drconv.viz import curves_figure


def record(epoch: int, loss: float | None = 2.0, regions: bool = True) -> dict[str, Any]:
    layers = [
        {"name": name, "num_regions": 4, "effective_regions": 1.0 + epoch / 4, "dead": [3]} for name in ("a", "b", "c")
    ]
    part = {"loss": loss, "top1": epoch / 10}
    return {"epoch": epoch, "learning_rate": 0.1, "train": part, "validation": part, "regions": layers * regions}


def test_every_record_is_drawn() -> None:
    figure = curves_figure([record(1), record(2, None), record(3)], title="net on data")
    loss, accuracy, rate, regions = figure.axes
    np.testing.assert_array_equal(loss.lines[1].get_ydata(), [2.0, np.nan, 2.0])
    np.testing.assert_array_equal(accuracy.lines[0].get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), [0.1, 0.2, 0.3])
    assert rate.get_ylim()[0] == 0
    assert [line.get_ydata()[-1] for line in regions.lines] == [1.75] * 3
    assert regions.get_title(loc="left") == "Regions in use, per layer; at the end 3 of 12 dead"
    figure.savefig(BytesIO(), format="png")


def test_points_on_the_frame_are_drawn_whole() -> None:
    """A point of the last epoch stands on the right edge; clipped to the panel, half of it would be missing."""
    figure = curves_figure([record(1), record(2)], title="net on data")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    accuracy = figure.axes[1]
    pixels = mpl.image.imread(BytesIO(buffer.getvalue()))
    across, up = accuracy.transData.transform((2, 0.2)) * 80 / figure.dpi
    beyond = pixels[pixels.shape[0] - round(up), round(across) + 2, :3]
    assert beyond.max() - beyond.min() > 0.3, "no colour right of the frame"


def test_a_network_without_regions_has_three_panels() -> None:
    figure = curves_figure([record(1, regions=False)], title="net on data")
    assert len(figure.axes) == 3
    figure.savefig(BytesIO(), format="png")


def test_no_record() -> None:
    with pytest.raises(ArgumentError, match="the log has no epoch"):
        curves_figure([], title="")
