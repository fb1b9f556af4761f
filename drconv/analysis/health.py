"""How regions are used over a set, in whole numbers: light enough to be counted after every epoch of training."""

from dataclasses import dataclass
from math import exp
from typing import Any

import torch

from drconv.analysis.record import RegionRecording
from drconv.analysis.statistics import RARE_SHARE, entropy_of

__all__ = ["RegionCounts", "RegionHealth"]


@dataclass(frozen=True)
class RegionHealth:
    """How one layer uses its regions over a set of images.

    Attributes:
        name: of the layer in its model.
        num_images: images that were counted.
        region_positions: positions of each region over all images, `[M]`.
        image_regions: regions on at least 1 % of an image's positions, summed over images.
    """

    name: str
    num_images: int
    region_positions: tuple[int, ...]
    image_regions: int

    @property
    def region_share(self) -> tuple[float, ...]:
        """Fraction of all positions, `[M]`."""
        total = max(1, sum(self.region_positions))
        return tuple(count / total for count in self.region_positions)

    @property
    def entropy(self) -> float:
        """Entropy of the shares, in nats: 0 for one region, log M for equal shares."""
        return entropy_of(self.region_share)

    @property
    def effective_regions(self) -> float:
        """As many regions of equal share would divide the set as evenly."""
        return exp(self.entropy)

    @property
    def dead(self) -> tuple[int, ...]:
        """Regions that occur nowhere in the set."""
        return tuple(j for j, count in enumerate(self.region_positions) if count == 0)

    @property
    def regions_per_image(self) -> float:
        """Mean over images of the number of regions with at least 1 % of the positions."""
        return self.image_regions / max(1, self.num_images)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "name": self.name,
            "num_regions": len(self.region_positions),
            "region_share": list(self.region_share),
            "entropy": self.entropy,
            "effective_regions": self.effective_regions,
            "regions_per_image": self.regions_per_image,
            "dead": list(self.dead),
        }


class RegionCounts:
    """Counts regions batch by batch. Two that have counted parts of a set merge to what one would have counted."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, list[int], int]] = {}

    def add(self, recording: RegionRecording) -> None:
        """Count what one forward pass used."""
        for layer in recording.layers:
            num_regions = layer.guided_feature.shape[1]
            masks = layer.guided_mask.flatten(1)  # [B, U*V]
            counts = torch.stack([(masks == j).sum(1) for j in range(num_regions)], 1).cpu()  # [B, M]
            present = int((counts >= max(1, RARE_SHARE * masks.shape[1])).sum())
            self._add(layer.name, len(masks), [int(n) for n in counts.sum(0).tolist()], present)

    def merge(self, other: "RegionCounts") -> None:
        """Add what another has counted, of other images of the set."""
        for name, (images, positions, present) in other._layers.items():
            self._add(name, images, positions, present)

    def report(self) -> tuple[RegionHealth, ...]:
        """Return the layers in the order in which they ran."""
        return tuple(RegionHealth(name, n, tuple(counts), k) for name, (n, counts, k) in self._layers.items())

    def _add(self, name: str, images: int, positions: list[int], present: int) -> None:
        before, counts, found = self._layers.get(name, (0, [0] * len(positions), 0))
        summed = [a + b for a, b in zip(counts, positions, strict=True)]
        self._layers[name] = (before + images, summed, found + present)
