"""How regions are used over many images: counts and exact sums, kept in memory that does not grow with their number."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import nlargest
from math import exp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drconv.analysis.exact_sum import ExactSum
from drconv.analysis.filters import redundant_regions
from drconv.analysis.statistics import LayerStatistics, RegionStatistics, describe_use, entropy_of
from drconv.errors import ArgumentError
from drconv.report import Cell, Column, Table
from drconv.table_html import table_html

__all__ = ["PRIOR_GRID", "TOP_IMAGES", "LayerUsage", "RegionUsage", "UsageReport"]

PRIOR_GRID = 24
"""Side of the grid on which the places of regions are counted; every image is stretched to it."""

TOP_IMAGES = 5
"""So many images are named for each region: those on which its share is largest."""

_Masks = Mapping[str, NDArray[np.integer[Any]]]


@dataclass(frozen=True)
class LayerUsage:
    """How one layer uses its regions over a set of images.

    Attributes:
        name: of the layer in its model.
        num_images: images that were added.
        region_positions: positions of each region over all images, `[M]`.
        region_share: fraction of all positions, `[M]`.
        region_images: images on which a region occurs, `[M]`.
        image_entropy: mean over images of the entropy of the shares within one, in nats. Near `entropy`, every image
            uses the regions in the same way; far below it, images differ.
        region_margins: mean over the images on which a region occurs of its mean margin, `[M]`.
        filter_norms: mean over images, `[M]`; None where it was never finite.
        filter_cosines: mean over images, `[M, M]`.
        prior: share of the images that have a region at a place, `[M, PRIOR_GRID, PRIOR_GRID]`.
        top_images: names of the images on which a region's share is largest, largest first, with the share.
        unscored: positions over all images whose scores are not finite; they have a region, but it means nothing.
    """

    name: str
    num_images: int
    region_positions: tuple[int, ...]
    region_share: tuple[float, ...]
    region_images: tuple[int, ...]
    image_entropy: float
    region_margins: tuple[float | None, ...]
    filter_norms: tuple[float | None, ...]
    filter_cosines: tuple[tuple[float | None, ...], ...]
    prior: tuple[tuple[tuple[float, ...], ...], ...]
    top_images: tuple[tuple[tuple[str, float], ...], ...]
    unscored: int = 0

    @property
    def num_regions(self) -> int:
        """M."""
        return len(self.region_positions)

    @property
    def entropy(self) -> float:
        """Entropy of the shares over the set, in nats."""
        return entropy_of(self.region_share)

    @property
    def dead(self) -> tuple[int, ...]:
        """Regions that occur on no image."""
        return tuple(j for j, count in enumerate(self.region_positions) if count == 0)

    @property
    def redundant(self) -> tuple[tuple[tuple[int, ...], float], ...]:
        """Groups of regions whose filters are one on average over the images, each with its smallest cosine."""
        return tuple(redundant_regions(self.filter_norms, self.filter_cosines))

    @property
    def verdict(self) -> str:
        """One sentence on how the layer uses its regions."""
        images = f"{self.num_images} image{'s' * (self.num_images != 1)}"
        return f"{self.name}, {images}: {describe_use(self.region_share, self.redundant, self.unscored)}."

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "name": self.name,
            "num_images": self.num_images,
            "num_regions": self.num_regions,
            "region_positions": list(self.region_positions),
            "region_share": list(self.region_share),
            "region_images": list(self.region_images),
            "entropy": self.entropy,
            "effective_regions": exp(self.entropy),
            "image_entropy": self.image_entropy,
            "dead": list(self.dead),
            "region_margins": list(self.region_margins),
            "unscored": self.unscored,
            "filter_norms": list(self.filter_norms),
            "filter_cosines": [list(row) for row in self.filter_cosines],
            "redundant": [{"regions": list(group), "cosine": cosine} for group, cosine in self.redundant],
            "prior": [[list(row) for row in region] for region in self.prior],
            "top_images": [[{"image": name, "share": share} for name, share in top] for top in self.top_images],
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class UsageReport:
    """Usage of several layers, in the order in which they ran."""

    layers: tuple[LayerUsage, ...]
    notes: tuple[str, ...] = ()

    def to_table(self) -> Table:
        """Return one row per layer and region."""
        columns = (
            Column("layer"),
            Column("region", "count"),
            Column("positions", "count"),
            Column("share", "share"),
            Column("images", "count"),
            Column("margin", "number"),
            Column("filter norm", "number"),
            Column("most on"),
        )
        rows: list[tuple[Cell, ...]] = []
        for layer in self.layers:
            for j, share in enumerate(layer.region_share):
                most = layer.top_images[j][0][0] if layer.top_images[j] else None
                counts = (layer.region_positions[j], share, layer.region_images[j])
                rows.append((layer.name, j, *counts, layer.region_margins[j], layer.filter_norms[j], most))
        images = max((layer.num_images for layer in self.layers), default=0)
        notes = (*self.notes, *(layer.verdict for layer in self.layers))
        return Table(f"Use of regions over {images} image{'s' * (images != 1)}", columns, tuple(rows), notes)

    def _repr_html_(self) -> str:
        return table_html(self.to_table())

    def to_dict(self) -> dict[str, Any]:
        """Return a list of layers."""
        return {"layers": [layer.to_dict() for layer in self.layers]}


@dataclass
class _Layer:
    """What is kept of one layer."""

    num_regions: int
    num_images: int = 0
    unscored: int = 0
    positions: list[int] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    entropy: ExactSum = field(default_factory=ExactSum)
    margins: list[ExactSum] = field(default_factory=list)
    norms: list[ExactSum] = field(default_factory=list)
    cosines: list[list[ExactSum]] = field(default_factory=list)
    prior: NDArray[np.int64] = field(init=False)
    # (share, -index of the image, its name): equal shares go to the earlier image, whoever counted it.
    top: list[list[tuple[float, int, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        m = self.num_regions
        self.positions, self.images = [0] * m, [0] * m
        self.margins, self.norms = ([ExactSum() for _ in range(m)] for _ in range(2))
        self.cosines = [[ExactSum() for _ in range(m)] for _ in range(m)]
        self.prior = np.zeros((m, PRIOR_GRID, PRIOR_GRID), np.int64)
        self.top = [[] for _ in range(m)]

    def add(self, index: int, image: str, layer: LayerStatistics, mask: NDArray[np.integer[Any]]) -> None:
        self.num_images += 1
        self.unscored += layer.unscored
        self.entropy.add(layer.entropy)
        for j, (count, share) in enumerate(zip(layer.region_positions, layer.region_share, strict=True)):
            self.positions[j] += count
            self.images[j] += count > 0
            if count > 0:
                self._rank(j, [(share, -index, image)])
        for sums, values in ((self.margins, layer.region_margins), (self.norms, layer.filter_norms)):
            _add(sums, values)
        for row, values in zip(self.cosines, layer.filter_cosines, strict=True):
            _add(row, values)
        rows, columns = (((np.arange(PRIOR_GRID) + 0.5) * side / PRIOR_GRID).astype(np.int64) for side in mask.shape)
        self.prior += mask[np.ix_(rows, columns)] == np.arange(self.num_regions)[:, None, None]

    def merge(self, other: "_Layer") -> None:
        self.num_images += other.num_images
        self.unscored += other.unscored
        self.entropy.merge(other.entropy)
        self.prior += other.prior
        for j in range(self.num_regions):
            self.positions[j] += other.positions[j]
            self.images[j] += other.images[j]
            self._rank(j, other.top[j])
            for mine, theirs in ((self.margins, other.margins), (self.norms, other.norms)):
                mine[j].merge(theirs[j])
            for total, more in zip(self.cosines[j], other.cosines[j], strict=True):
                total.merge(more)

    def _rank(self, region: int, more: list[tuple[float, int, str]]) -> None:
        self.top[region] = nlargest(TOP_IMAGES, self.top[region] + more)

    def report(self, name: str) -> LayerUsage:
        total = max(1, sum(self.positions))
        prior = self.prior / max(1, self.num_images)
        return LayerUsage(
            name,
            self.num_images,
            tuple(self.positions),
            tuple(count / total for count in self.positions),
            tuple(self.images),
            self.entropy.mean or 0.0,
            tuple(s.mean for s in self.margins),
            tuple(s.mean for s in self.norms),
            tuple(tuple(s.mean for s in row) for row in self.cosines),
            tuple(tuple(map(tuple, region)) for region in prior.tolist()),
            tuple(tuple((image, share) for share, _, image in top) for top in self.top),
            self.unscored,
        )


class RegionUsage:
    """Counts regions image by image. Two that have counted parts of a set merge to what one would have counted.

    Example:
        >>> usage = RegionUsage()
        >>> usage.add(0, "photo.jpg", region_statistics(recording), masks)
        >>> usage.report().layers[0].dead
        (5,)

    Attributes:
        num_images: that were added.
    """

    def __init__(self) -> None:
        self._layers: dict[str, _Layer] = {}
        self.num_images = 0

    def add(self, index: int, image: str, statistics: RegionStatistics, guided_masks: _Masks) -> None:
        """Count one image.

        Args:
            index: of the image in the set; each has its own.
            image: its name.
            statistics: of it alone.
            guided_masks: region of every position by layer name, `[U, V]`.
        """
        self.num_images += 1
        for layer in statistics.layers:
            kept = self._layers.setdefault(layer.name, _Layer(layer.num_regions))
            if kept.num_regions != layer.num_regions:
                raise ArgumentError(
                    f"a layer must keep its number of regions, got {layer.num_regions} in {layer.name} after "
                    f"{kept.num_regions}"
                )
            kept.add(index, image, layer, guided_masks[layer.name])

    def merge(self, other: "RegionUsage") -> None:
        """Add what another has counted, of other images of the set."""
        self.num_images += other.num_images
        for name, layer in other._layers.items():
            self._layers.setdefault(name, _Layer(layer.num_regions)).merge(layer)

    def report(self, notes: tuple[str, ...] = ()) -> UsageReport:
        """Return shares, means and names."""
        return UsageReport(tuple(layer.report(name) for name, layer in self._layers.items()), notes)


def _add(sums: list[ExactSum], values: tuple[float | None, ...]) -> None:
    for total, value in zip(sums, values, strict=False):
        if value is not None:
            total.add(value)
