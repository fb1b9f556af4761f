"""Every figure against a small committed picture, blurred first, so that letters may be drawn a little differently."""

import os
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageFilter

from drconv.analysis import LayerRegions, RegionRecording, RegionStatistics, RegionUsage, SweepReport, region_statistics
from drconv.analysis.flops.sweep import SweepPoint
from drconv.analysis.stability import ClipStability, StabilityCounter
from drconv.viz import (
    ComparisonRow,
    GridColumn,
    comparison_figure,
    grid_figure,
    region_figure,
    sweep_figure,
    usage_figure,
)
from drconv.viz.canvas import ClipCanvas
from drconv.viz.filters import filter_figure
from drconv.viz.stability import stability_figure

PICTURES = Path(__file__).parents[1] / "golden" / "pictures"
DPI, BLUR = 48, 2.5
# Levels of 255, after blurring. The pictures are of matplotlib 3.11.2; 3.10.3 differs from them by at most 1.6 and 46,
# 3.9.0, which draws hatches otherwise, by 3.4 and 60. The last test shows what is found all the same.
MEAN, MOST = 4.0, 64.0


def photo(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack((255 * y / height, 255 * x / width, 128 + 0 * x), -1).astype(np.uint8)


def mask(rows: int, columns: int, regions: int, step: int = 0) -> np.ndarray:
    """Return bands that lean, so that every region has straight and slanted borders."""
    y, x = np.mgrid[:rows, :columns]
    return (2 * x + y + step) * regions // (2 * columns + rows) % regions


def recorded(grids: dict[str, tuple[int, int, int]], step: int = 0) -> tuple[RegionStatistics, dict[str, np.ndarray]]:
    """Return full statistics and masks of layers given as rows, columns and regions."""
    layers, masks = [], {}
    for name, (rows, columns, regions) in grids.items():
        masks[name] = mask(rows, columns, regions, step)
        guide = torch.nn.functional.one_hot(torch.from_numpy(masks[name]), regions).permute(2, 0, 1)[None].float()
        angles = torch.arange(regions)[:, None] * torch.linspace(0.1, 1.3, 24)
        layers.append(LayerRegions(name, guide.argmax(1), 2 * guide, angles.cos().reshape(1, regions, 6, 4, 1, 1)))
    return region_statistics(RegionRecording(layers), True), masks


GRIDS = {"stage2.0": (12, 16, 8), "stage3.0": (6, 8, 3)}


def regions(patterns: bool = False) -> Figure:
    statistics, masks = recorded(GRIDS)
    margins = {name: np.linspace(0, 1, m.size).reshape(m.shape) for name, m in masks.items()}
    return region_figure(
        photo(90, 120), statistics, masks, title="A photo", margins=margins, notes=["A note."], patterns=patterns
    )


def usage() -> Figure:
    counted = RegionUsage()
    for index in range(3):
        statistics, masks = recorded(GRIDS, 5 * index)
        counted.add(index, f"{index}.jpg", statistics, masks)
    return usage_figure(counted.report(), title="A set", notes=["A note."])


def grid() -> Figure:
    columns = [GridColumn(f"{i}.jpg", photo(90, 120), recorded(GRIDS, 5 * i)[1]) for i in range(3)]
    return grid_figure(columns, {name: regions for name, (*_, regions) in GRIDS.items()}, title="A set")


def filters() -> Figure:
    return filter_figure(recorded(GRIDS)[0], title="A photo", notes=["A note."])


def comparison() -> Figure:
    maps = (mask(12, 16, 8), mask(12, 16, 8, 3))
    row = ComparisonRow("stage2.0", "80.0 % of positions agree", (photo(90, 120),) * 2, ("first", "second"), maps, 8)
    return comparison_figure([row], title="Two networks")


def stability() -> Figure:
    counter = StabilityCounter("stage2.0", 8)
    for step in range(20):
        counter.add(mask(12, 16, 8, step**2 // 9))
    return stability_figure(ClipStability(tuple(0.1 * t for t in range(20)), (counter.report(),)), title="A clip")


def madds() -> Figure:
    grid = [(m, s) for m in (1, 8) for s in (112, 224, 448)]
    points = (SweepPoint((m, s), 10**5 * s, 10**5 * s * m, 0, 0) for m, s in grid)
    return sweep_figure(SweepReport(("num_regions", "size"), tuple(points)), title="A network")


def frame() -> np.ndarray:
    """A frame of a clip."""
    canvas = ClipCanvas((90, 120), "stage2.0", 8, title="A clip", notes=["A note."])
    return canvas.draw(photo(90, 120), mask(12, 16, 8), "frame 3, 0.12 s")


FIGURES: dict[str, Callable[[], Figure | np.ndarray]] = {
    "regions": regions,
    "patterns": lambda: regions(patterns=True),
    "usage": usage,
    "grid": grid,
    "filters": filters,
    "comparison": comparison,
    "stability": stability,
    "madds": madds,
    "frame": frame,
}


def rendered(figure: Figure | np.ndarray) -> Image.Image:
    if isinstance(figure, np.ndarray):
        drawn = Image.fromarray(figure)
        return drawn.resize((drawn.width * DPI // 100, drawn.height * DPI // 100), Image.Resampling.BOX)
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    # Hinting moves letters to whole pixels, and differently in every FreeType.
    with mpl.rc_context({"text.hinting": "no_hinting"}):
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> tuple[float, float]:
    """Return mean and largest difference of two pictures that are blurred, in levels of 255."""
    a, b = (np.asarray(x.filter(ImageFilter.GaussianBlur(BLUR))).astype(np.float64) for x in (one, other))
    distance = np.abs(a - b).max(2)
    return float(distance.mean()), float(distance.max())


@pytest.mark.parametrize("name", FIGURES)
def test_picture_is_as_committed(name: str) -> None:
    drawn, path = rendered(FIGURES[name]()), PICTURES / f"{name}.png"
    if os.environ.get("DRCONV_REWRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        drawn.save(path, optimize=True)
    with Image.open(path) as picture:
        committed = picture.convert("RGB")
    assert drawn.size == committed.size
    mean, most = difference(drawn, committed)
    assert mean <= MEAN, f"{name}: mean {mean:.2f}, most {most:.1f}"
    assert most <= MOST, f"{name}: mean {mean:.2f}, most {most:.1f}"


def test_a_change_is_found() -> None:
    """What the tolerance must not let pass: a missing line of text, a recoloured region, a panel that has moved."""
    figure = regions()
    good = rendered(figure)
    assert difference(good, good) == (0, 0)

    def most(change: Callable[[Figure], object]) -> float:
        changed = regions()
        change(changed)
        return difference(good, rendered(changed))[1]

    assert most(lambda f: f.texts[0].set_text("")) > MOST, "the title"
    (panel,) = [ax for ax in figure.axes if ax.get_label() == "map"][:1]
    index = figure.axes.index(panel)
    colors = np.asarray(panel.images[0].get_array()).copy()
    colors[mask(12, 16, 8) == 2] = colors[mask(12, 16, 8) == 3][0]
    assert most(lambda f: f.axes[index].images[0].set_data(colors)) > MOST, "a colour"

    def move(f: Figure) -> None:
        box = f.axes[index].get_position()
        f.axes[index].set_position((box.x0 + 0.006, box.y0, box.width, box.height))

    assert most(move) > MOST, "a tenth of an inch"
