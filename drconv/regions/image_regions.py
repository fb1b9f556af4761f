"""What a model did with one image, and how it shows itself."""

from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drconv.analysis import RegionStatistics
from drconv.errors import FileError
from drconv.regions.html import regions_html
from drconv.viz import region_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ImageRegions"]

_SUFFIXES = ("png", "svg", "pdf")


@dataclass(frozen=True, eq=False)
class ImageRegions:
    """Regions of one image under one model. A notebook shows the picture and the table.

    Attributes:
        title: what figures say at the top.
        pixels: the photo as the network saw it, sRGB, `[H, W, 3]`.
        statistics: of the chosen layers.
        guided_masks: region of every position by layer name, `[U, V]` each.
        margins: largest minus second largest probability of every position by layer name, 0 to 1, NaN where scores are
            not finite, `[U, V]` each.
        notes: what a reader of the picture should know.
    """

    title: str
    pixels: NDArray[np.uint8]
    statistics: RegionStatistics
    guided_masks: dict[str, NDArray[Any]]
    margins: dict[str, NDArray[Any]]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Name the layers and their grids, without the arrays."""
        grids = (f"{name} {mask.shape[0]}x{mask.shape[1]}" for name, mask in self.guided_masks.items())
        return f"ImageRegions({self.title!r}, {', '.join(grids)})"

    def figure(self) -> "Figure":
        """Return a new matplotlib figure; see `drconv.viz.region_figure`."""
        return region_figure(
            self.pixels, self.statistics, self.guided_masks, title=self.title, margins=self.margins, notes=self.notes
        )

    def save(self, path: str | Path) -> None:
        """Write the picture to a file, and replace one that is there.

        Args:
            path: ends in .png, .svg or .pdf.

        Raises:
            FileError: it has another suffix, or cannot be written.
        """
        path = Path(path)
        suffix = path.suffix.lower().removeprefix(".")
        if suffix not in _SUFFIXES:
            raise FileError(f"a picture must end in .png, .svg or .pdf, got {path}")
        # Drawn before the file is opened, so that a failure leaves what was there.
        data = self._png if suffix == "png" else self._drawn(suffix)
        try:
            path.write_bytes(data)
        except OSError as error:
            raise FileError(f"cannot write {path}: {error.strerror or error}") from error

    def _drawn(self, format: str) -> bytes:
        data = BytesIO()
        self.figure().savefig(data, format=format)
        return data.getvalue()

    @cached_property
    def _png(self) -> bytes:
        return self._drawn("png")

    def _repr_png_(self) -> bytes:
        return self._png

    def _repr_html_(self) -> str:
        return regions_html(self._png, self.title, self.statistics, self.notes)
