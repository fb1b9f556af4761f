"""The files of one image that was measured, now or earlier: picture, filters, page."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from drconv_cli.output import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from drconv.analysis import RegionStatistics
    from drconv.regions import ImageRegions
    from drconv.viz import LoadedImage

__all__ = ["Measured", "Pictures"]

_COMPRESSION = 3
"""Of PNG; Pillow's own 6 takes twice as long for files a tenth smaller."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What the model did with an image.

    Attributes:
        image: the photo as it was loaded, or as an evidence folder kept it.
        statistics: of the chosen layers.
        guided_masks: region of every position by layer name, `[U, V]`.
        margins: how decided every position is, by layer name, `[U, V]`.
    """

    image: LoadedImage | ImageRegions
    statistics: RegionStatistics
    guided_masks: dict[str, NDArray[Any]]
    margins: dict[str, NDArray[Any]]


class _Source(Protocol):
    """What pictures say about where regions come from."""

    @property
    def title(self) -> str: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def force(self) -> bool: ...
    @property
    def patterns(self) -> bool: ...


class Pictures:
    """Draws what was measured; `title` is what the model is called, and `notes` are lines below every picture.

    The `name` of an image is shown as it is.
    """

    def draw(self: _Source, measured: Measured, name: str, figure: Path) -> None:
        """Write the picture of one image."""
        from drconv.viz import region_figure

        drawn = region_figure(
            measured.image.pixels,
            measured.statistics,
            measured.guided_masks,
            title=f"{name}: regions of {self.title}",
            margins=measured.margins,
            notes=[*measured.image.notes, *self.notes],
            patterns=self.patterns,
        )
        _save(drawn, figure, self.force)

    def draw_filters(self: _Source, measured: Measured, name: str, figure: Path) -> None:
        """Write the picture of one image's filters; needs full statistics."""
        from drconv.viz.filters import filter_figure

        title = f"{name}: filters of {self.title}"
        _save(filter_figure(measured.statistics, title=title, notes=self.notes), figure, self.force)

    def write_page(self: _Source, measured: Measured, name: str, page: Path) -> None:
        """Write the interactive page of one image."""
        from drconv.viz import region_page

        text = region_page(
            measured.image.pixels,
            measured.statistics,
            measured.guided_masks,
            title=f"{name}: regions of {self.title}",
            margins=measured.margins,
            notes=[*measured.image.notes, *self.notes],
        )
        write_file(page, text.encode(), self.force)


def _save(drawn: Figure, path: Path, force: bool) -> None:
    data = BytesIO()
    options: dict[str, Any] = {"pil_kwargs": {"compress_level": _COMPRESSION}} if path.suffix == ".png" else {}
    drawn.savefig(data, format=path.suffix[1:], **options)
    write_file(path, data.getvalue(), force)
