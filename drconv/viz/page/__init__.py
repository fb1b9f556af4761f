"""Regions of one image as a web page: a single file with everything inside, which asks the network for nothing."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drconv.analysis.statistics import RegionStatistics
from drconv.errors import ArgumentError, DrconvError
from drconv.viz.checked import check_pixels, checked_mask, checked_shape
from drconv.viz.page.content import MOST_LAYERS, MOST_POSITIONS, MOST_REGIONS, page_content, plain

__all__ = ["region_page"]


def region_page(
    pixels: NDArray[np.uint8],
    statistics: RegionStatistics,
    guided_masks: Mapping[str, NDArray[Any]],
    *,
    title: str,
    margins: Mapping[str, NDArray[np.floating[Any]]],
    notes: Sequence[str] = (),
) -> str:
    """Return an interactive page: a tab per layer with the map over the photo, and the numbers of every position.

    Its size is bounded: the photo is a JPEG of at most 1600 pixels a side; maps have 3 bytes a position before they
    are compressed (the region, and the margin rounded to 4 decimals); numbers have 4 digits; a region names the 16
    filters nearest to its own; with labels, the 32 largest classes have columns of their own.

    Args:
        pixels: photo in sRGB, `[H, W, 3]`.
        statistics: of this one image; tabs keep its order.
        guided_masks: region of every position by layer name, `[U, V]` each.
        title: of the page.
        margins: largest minus second largest probability of every position by layer name, 0 to 1, NaN where it has
            none, `[U, V]` each; see `drconv.analysis.guide_margins`.
        notes: lines below the title, such as that the weights are random.

    Returns:
        HTML of a file of its own, to be written as UTF-8.

    Raises:
        ArgumentError: there is no layer, the maps do not fit the statistics, or there are more than 64 layers, 256
            regions in one, or 2,097,152 positions in all.
        DrconvError: Jinja2 (extra `viz`) is not installed.

    Example:
        >>> masks = {layer.name: layer.guided_mask[0].numpy() for layer in recording.layers}
        >>> margins = {layer.name: guide_margins(layer.guided_feature)[0].numpy() for layer in recording.layers}
        >>> page = region_page(image.pixels, region_statistics(recording), masks, title="photo.jpg", margins=margins)
        >>> Path("photo.html").write_text(page, encoding="utf-8")
    """
    layers = statistics.layers
    check_pixels(pixels)
    if not 1 <= len(layers) <= MOST_LAYERS:
        raise ArgumentError(f"a page holds 1 to {MOST_LAYERS} layers, got {len(layers)}; choose fewer layers")
    if (most := max(layer.num_regions for layer in layers)) > MOST_REGIONS:
        raise ArgumentError(f"a page holds layers of at most {MOST_REGIONS} regions, got {most}; leave that layer out")
    masks = [checked_mask(layer, guided_masks) for layer in layers]
    decided = [checked_shape(layer, margins, "margins", "margins", "floats") for layer in layers]
    if (positions := sum(mask.size for mask in masks)) > MOST_POSITIONS:
        raise ArgumentError(
            f"a page holds at most {MOST_POSITIONS:,} positions in all layers, got {positions:,}; choose fewer layers, "
            "or make the image smaller"
        )
    content = page_content(pixels, list(zip(layers, masks, decided, strict=True)))
    return str(_render(title=plain(title), notes=[plain(note) for note in notes], **content))


def _render(**content: Any) -> Any:
    """Load the template engine only now: it is optional, and takes its time."""
    try:
        render = import_module("drconv.viz.page.template").render
    except ImportError as error:
        raise DrconvError(
            f"the page needs what the extra 'viz' installs, and there is no {error.name}; pip install 'drconv[viz]'"
        ) from error
    return render(**content)
