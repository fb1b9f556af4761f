"""What `drconv visualize` returns: the statistics of a few images, and the use of regions over all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drconv.analysis.statistics import STATISTICS_COLUMNS, RegionStatistics
from drconv.analysis.usage import UsageReport
from drconv.report import Column, Table

__all__ = ["ImageStatistics", "RegionReport"]


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics of one image.

    Attributes:
        image: its path, as given.
        size: (H, W) as the network saw it.
        figure: where its picture was written; None if it was not drawn.
        statistics: of the chosen layers.
        page: where its interactive page was written; None without one.
    """

    image: str
    size: tuple[int, int]
    figure: str | None
    statistics: RegionStatistics
    page: str | None = None


@dataclass(frozen=True)
class RegionReport:
    """Statistics of images under one model.

    Attributes:
        images: each by itself; none of them where they are too many.
        notes: lines below the table.
        usage: of regions over all images; None for a single image.
    """

    images: tuple[ImageStatistics, ...]
    notes: tuple[str, ...] = ()
    usage: UsageReport | None = None

    def to_table(self) -> Table:
        """Return one row per layer and region, over all images or of the single one."""
        if self.usage is not None:
            table = self.usage.to_table()
            return Table(table.title, table.columns, table.rows, (*self.notes, *table.notes))
        rows = tuple((Path(x.image).name, *row) for x in self.images for row in x.statistics.rows())
        verdicts = tuple(layer.verdict for x in self.images for layer in x.statistics.layers)
        columns = (Column("image"), *STATISTICS_COLUMNS)
        return Table("Regions and their filters", columns, rows, (*self.notes, *verdicts))

    def to_dict(self) -> dict[str, Any]:
        """Return the images, each with its layers, and the usage over all."""
        return {
            "images": [
                {"image": x.image, "size": list(x.size), "figure": x.figure, "page": x.page, **x.statistics.to_dict()}
                for x in self.images
            ],
            "usage": None if self.usage is None else self.usage.to_dict(),
        }
