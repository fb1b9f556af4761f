"""Pictures of regions, counts and times: results become figures here. No file is written and nothing is measured."""

from drconv.viz.comparison import ComparisonRow, comparison_figure
from drconv.viz.curves import curves_figure
from drconv.viz.figure import region_figure
from drconv.viz.grid import GridColumn, grid_figure
from drconv.viz.image import LoadedImage, load_image, prepare_image
from drconv.viz.labels import load_labels
from drconv.viz.page import region_page
from drconv.viz.palette import region_color, region_colors
from drconv.viz.profile import profile_figure
from drconv.viz.sheet import SheetImage, sheet_figure
from drconv.viz.sweep import sweep_figure
from drconv.viz.tensor_pixels import pixels_of
from drconv.viz.thumbnail import map_thumbnail, photo_thumbnail
from drconv.viz.usage import usage_figure

__all__ = [
    "ComparisonRow",
    "GridColumn",
    "LoadedImage",
    "SheetImage",
    "comparison_figure",
    "curves_figure",
    "grid_figure",
    "load_image",
    "load_labels",
    "map_thumbnail",
    "photo_thumbnail",
    "pixels_of",
    "prepare_image",
    "profile_figure",
    "region_color",
    "region_colors",
    "region_figure",
    "region_page",
    "sheet_figure",
    "sweep_figure",
    "usage_figure",
]
