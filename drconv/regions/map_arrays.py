"""Guided masks and margins of one image in an .npz file, and back without pickle."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any, BinaryIO, cast
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from drconv.errors import FileError
from drconv.regions.index_map import smallest_dtype

__all__ = ["arrays_from_npz", "arrays_to_npz"]

_MASK, _MARGINS = "guided_mask", "margins"
_HEADER = 512
"""An array's header is shorter than this; what is announced beyond it is no array of ours."""


def arrays_to_npz(
    guided_masks: Mapping[str, NDArray[np.integer]],
    margins: Mapping[str, NDArray[np.floating]],
    num_regions: Mapping[str, int],
) -> bytes:
    """Return an .npz with `LAYER/guided_mask` (uint8 or uint16) and `LAYER/margins` (float32), `[U, V]` each."""
    arrays: dict[str, Any] = {}
    for name, mask in guided_masks.items():
        arrays[f"{name}/{_MASK}"] = np.ascontiguousarray(mask, smallest_dtype(num_regions[name]))
        arrays[f"{name}/{_MARGINS}"] = np.ascontiguousarray(margins[name], np.float32)
    data = BytesIO()
    np.savez_compressed(data, **arrays)
    return data.getvalue()


def arrays_from_npz(
    data: bytes, layers: Mapping[str, tuple[tuple[int, int], int]], name: str
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Return the guided masks (int64) and margins of layers.

    Every header is read before its values, and an array of another shape or dtype is refused, so that memory is
    bounded by `layers`. Nothing is unpickled.

    Args:
        data: the file.
        layers: (grid, M) by name.
        name: of the file, for messages.

    Raises:
        FileError: it is no .npz, an array is missing, superfluous or of another shape or dtype, or a value is not one
            that it can have.
    """
    expected = {}
    for layer, (grid, num_regions) in layers.items():
        expected[f"{layer}/{_MASK}.npy"] = (grid, np.dtype(smallest_dtype(num_regions)))
        expected[f"{layer}/{_MARGINS}.npy"] = (grid, np.dtype(np.float32))
    try:
        with ZipFile(BytesIO(data)) as archive:
            if sorted(archive.namelist()) != sorted(expected):
                raise FileError(f"{name} must hold {', '.join(expected)}, got {ascii(archive.namelist())[:200]}")
            arrays = {key: _array(archive, key, *wanted, name) for key, wanted in expected.items()}
    except FileError:
        raise
    except Exception as error:  # a damaged archive fails in many ways
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileError(f"{name} is no sound .npz ({reason})") from error
    masks, margins = ({layer: arrays[f"{layer}/{kind}.npy"] for layer in layers} for kind in (_MASK, _MARGINS))
    for layer, (_, num_regions) in layers.items():
        if masks[layer].max() >= num_regions:
            raise FileError(f"{name}: regions of {layer} must be below {num_regions}, got {masks[layer].max()}")
        known = margins[layer][~np.isnan(margins[layer])]
        if ((known < 0) | (known > 1)).any():
            raise FileError(f"{name}: margins of {layer} must lie in 0 to 1, got {known.min():g} to {known.max():g}")
    return {layer: mask.astype(np.int64) for layer, mask in masks.items()}, margins


def _array(archive: ZipFile, key: str, shape: tuple[int, int], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    size = shape[0] * shape[1] * dtype.itemsize
    if archive.getinfo(key).file_size > size + _HEADER:
        raise FileError(f"{name}: {key} must be {dtype} of {list(shape)}, got more bytes than that")
    with archive.open(key) as file:
        stream = cast(BinaryIO, file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(stream)]
        found = read(stream)
        if found[0] != shape or found[2] != dtype:
            raise FileError(f"{name}: {key} must be {dtype} of {list(shape)}, got {found[2]} of {list(found[0])}")
        if found[1]:
            raise FileError(f"{name}: {key} must be in C order")
        return np.frombuffer(file.read(size), dtype).reshape(shape)
