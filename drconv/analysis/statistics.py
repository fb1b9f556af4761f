"""Numbers about regions and their filters, from a recording of one image or a batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drconv.analysis.record import LayerRegions, RegionRecording
from drconv.report import Cell, Column, Table

__all__ = ["ImageStatistics", "LayerStatistics", "RegionReport", "RegionStatistics", "region_statistics"]

_COLUMNS = (
    Column("layer"),
    Column("grid"),
    Column("region", "count"),
    Column("positions", "count"),
    Column("share", "share"),
    Column("filter norm", "number"),
    Column("nearest filter", "count"),
    Column("cosine", "number"),
)


@dataclass(frozen=True)
class LayerStatistics:
    """How one layer divides the plane, and the filters it uses.

    Attributes:
        name: of the layer in its model.
        grid: (U, V), positions of the map.
        region_positions: positions of each region, `[M]`; over a batch, the sum.
        region_share: fraction of positions of each region, `[M]`.
        filter_norms: Frobenius norm of each region's filter, `[M]`; over a batch, the mean. None if not finite.
        filter_cosines: cosine between the filters of two regions, `[M, M]`, of the (over a batch, mean) filters. None
            where a filter is zero or not finite.
    """

    name: str
    grid: tuple[int, int]
    region_positions: tuple[int, ...]
    region_share: tuple[float, ...]
    filter_norms: tuple[float | None, ...]
    filter_cosines: tuple[tuple[float | None, ...], ...]

    @property
    def num_regions(self) -> int:
        """M."""
        return len(self.region_positions)

    @property
    def num_present(self) -> int:
        """Regions that occur at all."""
        return sum(count > 0 for count in self.region_positions)


@dataclass(frozen=True)
class RegionStatistics:
    """Statistics of the recorded layers, in the order they ran."""

    layers: tuple[LayerStatistics, ...]

    def to_table(self) -> Table:
        """Return one row per layer and region."""
        return Table("Regions and their filters", _COLUMNS, tuple(self.rows()))

    def rows(self) -> Iterator[tuple[Cell, ...]]:
        """Yield the cells of `to_table`."""
        for layer in self.layers:
            for j, share in enumerate(layer.region_share):
                nearest = _nearest(layer.filter_cosines[j], j)
                cosine = None if nearest is None else layer.filter_cosines[j][nearest]
                grid = f"{layer.grid[0]}x{layer.grid[1]}"
                counted = (layer.region_positions[j], share)
                yield (layer.name, grid, j, *counted, layer.filter_norms[j], nearest, cosine)

    def to_dict(self) -> dict[str, Any]:
        """Return a list of layers; matrices are nested lists, unknown numbers are None."""
        return {
            "layers": [
                {
                    "name": layer.name,
                    "grid": list(layer.grid),
                    "num_regions": layer.num_regions,
                    "num_present": layer.num_present,
                    "region_positions": list(layer.region_positions),
                    "region_share": list(layer.region_share),
                    "filter_norms": list(layer.filter_norms),
                    "filter_cosines": [list(row) for row in layer.filter_cosines],
                }
                for layer in self.layers
            ]
        }


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics of one image.

    Attributes:
        image: its path, as given.
        size: (H, W) as the network saw it.
        figure: where its picture was written.
        statistics: of the chosen layers.
    """

    image: str
    size: tuple[int, int]
    figure: str
    statistics: RegionStatistics


@dataclass(frozen=True)
class RegionReport:
    """Statistics of several images under one model."""

    images: tuple[ImageStatistics, ...]
    notes: tuple[str, ...] = ()

    def to_table(self) -> Table:
        """Return one row per image, layer and region; images of one name go by their paths."""
        names = [Path(image.image).name for image in self.images]
        if len(set(names)) < len(names):
            names = [image.image for image in self.images]
        rows = tuple(
            (name, *row) for name, image in zip(names, self.images, strict=True) for row in image.statistics.rows()
        )
        return Table("Regions and their filters", (Column("image"), *_COLUMNS), rows, self.notes)

    def to_dict(self) -> dict[str, Any]:
        """Return a list of images, each with its layers."""
        return {
            "images": [
                {"image": x.image, "size": list(x.size), "figure": x.figure, **x.statistics.to_dict()}
                for x in self.images
            ]
        }


def region_statistics(recording: RegionRecording) -> RegionStatistics:
    """Reduce a recording to numbers.

    Args:
        recording: what `record_regions` gave after at least one forward pass.

    Returns:
        One entry per recorded call of a layer.
    """
    return RegionStatistics(tuple(_layer_statistics(layer) for layer in recording.layers))


def _layer_statistics(layer: LayerRegions) -> LayerStatistics:
    num_regions = layer.guided_feature.shape[1]
    counts = layer.guided_mask.flatten().bincount(minlength=num_regions).tolist()
    total = max(1, sum(counts))
    filters = layer.region_filters.double() if layer.region_filters.device.type != "mps" else layer.region_filters
    filters = (filters if filters.dim() == 6 else filters[None]).flatten(2)  # [B, M, O*C/groups*K*K]
    norms = filters.norm(dim=2)  # [B, M]
    unit = filters.mean(0)
    unit = unit / unit.norm(dim=1, keepdim=True)  # 0/0 is NaN: no direction, no cosine
    cosines = (unit @ unit.T).clamp(-1, 1)
    _, _, height, width = layer.guided_feature.shape
    return LayerStatistics(
        layer.name,
        (height, width),
        tuple(counts),
        tuple(count / total for count in counts),
        _finite(norms.mean(0)),
        tuple(_finite(row) for row in cosines),
    )


def _finite(values: Tensor) -> tuple[float | None, ...]:
    return tuple(v if ok else None for v, ok in zip(values.tolist(), torch.isfinite(values).tolist(), strict=True))


def _nearest(cosines: tuple[float | None, ...], j: int) -> int | None:
    others = [(cosine, i) for i, cosine in enumerate(cosines) if i != j and cosine is not None]
    return max(others)[1] if others else None
