"""The shapes of regions on the map: connected components and boundaries."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["ShapeStatistics", "shape_statistics"]

_Masks = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class ShapeStatistics:
    """How scattered the regions of one layer are. Neighbours share an edge, not only a corner.

    Attributes:
        components: connected components of each region, `[M]`; over a batch, the sum.
        component_sizes: mean number of positions of a component, `[M]`; None for a region that does not occur.
        boundary_lengths: edges between a position of the region and one of another region, `[M]`; over a batch, the
            sum. The border of the map does not count.
        boundary_share: fraction of all edges between positions that lie between two regions; None on a 1x1 map.
    """

    components: tuple[int, ...]
    component_sizes: tuple[float | None, ...]
    boundary_lengths: tuple[int, ...]
    boundary_share: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "components": list(self.components),
            "component_sizes": list(self.component_sizes),
            "boundary_lengths": list(self.boundary_lengths),
            "boundary_share": self.boundary_share,
        }


def shape_statistics(guided_masks: _Masks, num_regions: int) -> ShapeStatistics:
    """Measure components and boundaries.

    Args:
        guided_masks: region of every position, `[B, U, V]`.
        num_regions: M.
    """
    components = [0] * num_regions
    for mask in guided_masks:
        for region in range(num_regions):
            components[region] += int(ndimage.label(mask == region)[1])
    positions = np.bincount(guided_masks.ravel(), minlength=num_regions)
    lengths = np.zeros(num_regions, np.int64)
    edges = 0
    for a, b in ((guided_masks[:, 1:], guided_masks[:, :-1]), (guided_masks[:, :, 1:], guided_masks[:, :, :-1])):
        differ = a != b
        edges += differ.size
        for side in (a, b):
            lengths += np.bincount(side[differ], minlength=num_regions)
    return ShapeStatistics(
        tuple(components),
        tuple(float(p / c) if c else None for p, c in zip(positions, components, strict=True)),
        tuple(lengths.tolist()),
        float(lengths.sum() / 2 / edges) if edges else None,
    )
