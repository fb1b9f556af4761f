"""The regions of an image as a result of its own: measured in one call, shown in a notebook, kept in a folder."""

from drconv.regions.image_regions import ImageRegions
from drconv.regions.measure import MeasuredRegions, input_channels, measure_regions, on_device_of, visualize

__all__ = [
    "ImageRegions",
    "MeasuredRegions",
    "input_channels",
    "measure_regions",
    "on_device_of",
    "visualize",
]
