import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from drconv.analysis import SweepReport
from drconv.analysis.flops.sweep import SweepPoint
from drconv.errors import ArgumentError
from drconv.viz import region_color, sweep_figure


def report(axes: tuple[str, ...], grid: list[tuple[tuple[object, ...], int, int]]) -> SweepReport:
    return SweepReport(axes, tuple(SweepPoint(settings, madds, executed, 0, 0) for settings, madds, executed in grid))


def test_lines_are_the_numbers() -> None:
    grid = [((m, s), 10**6 * m * s, 10**6 * m * s * (2 if s > 1 else 1)) for m in (1, 4) for s in (1, 2, 3)]
    figure = sweep_figure(report(("num_regions", "size"), grid), title="net")
    (axes,) = figure.axes
    drawn = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
    assert drawn == {
        "num_regions = 1: theory": ([0, 1, 2], [1, 2, 3]),
        "num_regions = 1: executed": ([0, 1, 2], [1, 4, 6]),
        "num_regions = 4: theory": ([0, 1, 2], [4, 8, 12]),
        "num_regions = 4: executed": ([0, 1, 2], [4, 16, 24]),
    }
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "3"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("size", "MAdds per image (millions)")
    assert axes.get_ylim()[0] == 0
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [label.partition(": ")[2] for label in labels] == ["theory", "theory", "executed", "executed"]
    colors = {to_rgb(line.get_color()) for line in axes.lines}
    assert colors == {region_color(0), region_color(1)}


def test_one_axis_and_no_difference_is_one_line() -> None:
    figure = sweep_figure(report(("size",), [((s,), s, s) for s in (1, 2)]), title="net")
    assert [line.get_label() for line in figure.axes[0].lines] == ["theory"]


def test_nothing_is_cut_off() -> None:
    grid = [((g, (112, 224)), 10**9, 10**10) for g in range(8)]
    figure = sweep_figure(
        report(("filter_generator", "size"), grid), title="a_network: MAdds over filter_generator, size"
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= figure.bbox.width
    assert box.y1 <= figure.axes[0].get_tightbbox().y0
    pixels = np.asarray(canvas.buffer_rgba())
    assert (pixels[[0, -1]] == 255).all()


def test_too_many_lines() -> None:
    with pytest.raises(ArgumentError, match="at most 8 lines, got 9 combinations of num_regions"):
        sweep_figure(report(("num_regions", "size"), [((m, 1), 1, 1) for m in range(9)]), title="net")
