"""Region maps and photos as lossless PNG, and back."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drconv.errors import FileError
from drconv.viz import region_colors

__all__ = ["map_from_png", "map_to_png", "photo_from_png", "photo_to_png", "smallest_dtype"]

_Map = NDArray[np.uint8] | NDArray[np.uint16]


def smallest_dtype(num_regions: int) -> type[np.uint8] | type[np.uint16]:
    """Return the dtype that maps of so many regions are kept in."""
    return np.uint8 if num_regions <= 256 else np.uint16


def map_to_png(guided_mask: NDArray[np.integer], num_regions: int) -> bytes:
    """Return a PNG whose pixel values are regions, one pixel per position.

    Up to 256 regions it has a palette of the regions' colours; beyond, it is gray of 16 bits.

    Args:
        guided_mask: region of every position, `[U, V]`.
        num_regions: M.
    """
    picture = Image.fromarray(guided_mask.astype(smallest_dtype(num_regions)))
    if num_regions <= 256:
        picture.putpalette((region_colors(num_regions) * 255).round().astype(np.uint8).tobytes())
    return _encoded(picture)


def map_from_png(data: bytes, grid: tuple[int, int], name: str) -> _Map:
    """Return what `map_to_png` was given.

    Raises:
        FileError: it is no such PNG, or of another size.
    """
    return _decoded(data, grid, name, ("P", "I;16"))


def photo_to_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return a PNG of `[H, W, 3]`."""
    return _encoded(Image.fromarray(pixels))


def photo_from_png(data: bytes, size: tuple[int, int], name: str) -> NDArray[np.uint8]:
    """Return what `photo_to_png` was given.

    Raises:
        FileError: it is no such PNG, or of another size.
    """
    return _decoded(data, size, name, ("RGB",)).astype(np.uint8, copy=False)


def _encoded(picture: Image.Image) -> bytes:
    data = BytesIO()
    picture.save(data, format="png")
    return data.getvalue()


def _decoded(data: bytes, size: tuple[int, int], name: str, modes: tuple[str, ...]) -> NDArray[np.uint8]:
    try:
        with Image.open(BytesIO(data), formats=["PNG"]) as picture:
            # Before anything is decoded: the size that was announced bounds the memory.
            if (picture.height, picture.width) != size or picture.mode not in modes:
                got = f"{picture.height}x{picture.width} of mode {picture.mode}"
                raise FileError(f"{name} must be {size[0]}x{size[1]} of mode {' or '.join(modes)}, got {got}")
            return np.asarray(picture)
    except FileError:
        raise
    except Exception as error:  # decoders meet damaged data with almost any exception
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileError(f"{name} is no sound PNG ({reason})") from error
