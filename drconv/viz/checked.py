"""What every picture of an image needs: pixels and maps that fit the statistics."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from drconv.analysis.statistics import LayerStatistics
from drconv.errors import ArgumentError

__all__ = ["check_pixels", "checked_mask", "checked_shape"]

_KINDS = {"integers": np.integer, "floats": np.floating}


def check_pixels(pixels: NDArray[np.uint8]) -> None:
    """Raise `ArgumentError` unless pixels are uint8 `[H, W, 3]`."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise ArgumentError(f"pixels must be uint8 of shape [H, W, 3], got {pixels.dtype} of {list(pixels.shape)}")


def checked_mask(layer: LayerStatistics, masks: Mapping[str, NDArray[Any]]) -> NDArray[np.integer[Any]]:
    """Return the guided mask of a layer, `[U, V]`; raise `ArgumentError` if it is not one."""
    mask = checked_shape(layer, masks, "guided_masks", "mask", "integers")
    if mask.size == 0 or mask.min() < 0 or mask.max() >= layer.num_regions:
        got = f"{mask.min()} to {mask.max()}" if mask.size else "no position"
        raise ArgumentError(f"the mask of {layer.name!r} must hold 0 to {layer.num_regions - 1}, got {got}")
    return mask


def checked_shape(
    layer: LayerStatistics,
    maps: Mapping[str, NDArray[Any]],
    argument: str,
    word: str,
    kind: Literal["integers", "floats"],
) -> NDArray[Any]:
    """Return the map of a layer, which must have its grid and kind of numbers; `word` names it in messages."""
    if layer.name not in maps:
        raise ArgumentError(f"{argument} must have every layer of the statistics, got none for {layer.name!r}")
    found = np.asarray(maps[layer.name])
    if found.shape != layer.grid or not np.issubdtype(found.dtype, _KINDS[kind]):
        want = f"{kind} of shape {list(layer.grid)}"
        raise ArgumentError(f"the {word} of {layer.name!r} must be {want}, got {found.dtype} of {list(found.shape)}")
    return found
