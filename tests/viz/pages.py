"""Pages to look at: their statistics come from scores that the tests know."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from drconv.analysis import LayerRegions, RegionRecording, RegionStatistics, guide_margins, region_statistics
from drconv.ops import guided_mask
from drconv.viz import region_page

__all__ = ["HOSTILE", "Case", "recorded"]

HOSTILE = "</script><script>alert(1)</script>\"'&amp;{{ 7*7 }}\n<img src=x onerror=alert(2)>\udc80\x00猫"


@dataclass(frozen=True)
class Case:
    """What `region_page` is given."""

    pixels: NDArray[np.uint8]
    statistics: RegionStatistics
    masks: dict[str, NDArray[Any]]
    margins: dict[str, NDArray[Any]]

    def page(self, title: str = "photo.jpg", notes: tuple[str, ...] = ()) -> str:
        return region_page(self.pixels, self.statistics, self.masks, title=title, margins=self.margins, notes=notes)


def recorded(
    *layers: tuple[str, int, tuple[int, int]], full: bool = False, scores: dict[str, torch.Tensor] | None = None
) -> Case:
    """Make a case of random scores and filters.

    Args:
        layers: name, number of regions and grid of each.
        full: whether all statistics are measured.
        scores: `[1, M, U, V]` of some layers, in place of random ones.
    """
    random = torch.Generator().manual_seed(3)
    recording = RegionRecording()
    for name, num_regions, grid in layers:
        feature = torch.randn(1, num_regions, *grid, generator=random)
        feature = (scores or {}).get(name, feature)
        filters = torch.randn(1, num_regions, 4, 3, 3, 3, generator=random)
        recording.layers.append(LayerRegions(name, guided_mask(feature), feature, filters))
    photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return Case(
        photo,
        region_statistics(recording, full),
        {layer.name: layer.guided_mask[0].numpy() for layer in recording.layers},
        {layer.name: guide_margins(layer.guided_feature)[0].numpy() for layer in recording.layers},
    )
