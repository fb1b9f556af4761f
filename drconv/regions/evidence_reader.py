"""Reads an evidence folder that anybody may have written: nothing in it is taken at its word."""

import json
import stat
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from drconv.analysis import LayerStatistics, statistics_from_dict
from drconv.errors import DrconvError, FileError
from drconv.regions.evidence import MANIFEST, read_manifest
from drconv.regions.evidence_writer import sha256_of
from drconv.regions.image_regions import ImageRegions
from drconv.regions.index_map import map_from_png, photo_from_png
from drconv.regions.map_arrays import arrays_from_npz

__all__ = ["Evidence", "EvidenceImage", "read_evidence"]

_MOST_POSITIONS = 2**26
"""No map and no photo is larger; the network's input has at most 16 million pixels."""

_MOST_REGIONS = 1024
"""No picture could tell more apart."""

_LONGEST = 4096
"""Of a name or a note, in letters."""


@dataclass(frozen=True)
class EvidenceImage:
    """One image of an evidence folder.

    Attributes:
        name: as it was called, a path on the machine where it was measured.
        error: why it was left out; None if it was not.
        entry: of the manifest; its types are checked when the image is read.
    """

    name: str
    error: str | None
    entry: dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """An evidence folder whose files are all there and unchanged.

    Attributes:
        folder: where it is.
        title: of its pictures, what the model is called.
        notes: lines below them.
        about: values of its manifest by name.
        images: in the order in which they were measured.
    """

    folder: Path
    title: str
    notes: tuple[str, ...]
    about: dict[str, Any]
    images: tuple[EvidenceImage, ...]

    def load(self, place: int) -> ImageRegions:
        """Read one image.

        Raises:
            FileError: it was left out, or its files contradict each other.
        """
        image = self.images[place]
        if image.error is not None:
            raise FileError(image.error)
        try:
            return self._load(image)
        except FileError as error:
            raise FileError(f"{self.folder} is damaged or not what it claims to be: {error}") from error

    def _load(self, image: EvidenceImage) -> ImageRegions:
        entry = image.entry
        size = _grid(entry.get("size"), "size of the photo")
        layers = entry.get("layers")
        if not isinstance(layers, list) or not layers or not all(isinstance(layer, dict) for layer in layers):
            raise FileError(f"{image.name} names no layers")
        kept: dict[str, tuple[tuple[int, int], int]] = {}
        for layer in layers:
            name, count = _text(layer.get("name"), "name of a layer"), layer.get("num_regions")
            if type(count) is not int or not 1 <= count <= _MOST_REGIONS or name in kept:
                raise FileError(
                    f"{name} must be there once, with 1 to {_MOST_REGIONS} regions, got {ascii(count)[:20]}"
                )
            kept[name] = (_grid(layer.get("grid"), f"grid of {name}"), count)
        photo, arrays, numbers = (_text(entry.get(key), key) for key in ("photo", "regions", "statistics"))
        pixels = photo_from_png(self._bytes(photo), size, photo)
        masks, margins = arrays_from_npz(self._bytes(arrays), kept, arrays)
        try:
            statistics = statistics_from_dict(json.loads(self._bytes(numbers)))
        except (ValueError, RecursionError) as error:
            raise FileError(f"{numbers} is no JSON ({error})") from error
        if [layer.name for layer in statistics.layers] != list(kept):
            raise FileError(f"{numbers} is not of the layers {', '.join(kept)[:200]}")
        for layer, entry_of in zip(statistics.layers, layers, strict=True):
            _check_counts(layer, kept[layer.name], masks[layer.name], numbers)
            file = _text(entry_of.get("map"), "map")
            if not np.array_equal(map_from_png(self._bytes(file), layer.grid, file), masks[layer.name]):
                raise FileError(f"{file} is not the map of {layer.name} in {arrays}")
        notes = _texts(entry.get("notes"), "notes")
        called = Path(image.name).name.encode(errors="replace").decode()
        title = f"{called}: regions of {self.title}"
        return ImageRegions(title, pixels, statistics, masks, margins, notes)

    def _bytes(self, name: str) -> bytes:
        """Return a file that the manifest lists, as it lists it."""
        listed = self.about["files"].get(name)
        if listed is None:
            raise FileError(f"{name[:60]!r} is not among the files of {MANIFEST}")
        try:
            data = _regular(self.folder, name, listed["size"]).read_bytes()
        except OSError as error:
            raise FileError(f"cannot read {name}: {error.strerror or error}") from error
        if sha256(data).hexdigest() != listed["sha256"]:
            raise FileError(f"{name} has changed since it was written (SHA-256)")
        return data


def read_evidence(folder: Path) -> Evidence:
    """Open an evidence folder, and check every file that its manifest names.

    Args:
        folder: that `drconv visualize --evidence` or an `EvidenceWriter` has written.

    Raises:
        FileError: it is no evidence folder, of another schema, incomplete, changed or hostile; one line says which.

    Example:
        >>> read_evidence(Path("evidence")).load(0).save("again.png")
    """
    about = read_manifest(folder)
    try:
        for name, listed in about["files"].items():
            if not isinstance(listed, dict) or type(listed.get("size")) is not int:
                raise FileError(f"{MANIFEST} does not say how large {name} is")
            if sha256_of(_regular(folder, name, listed["size"])) != listed.get("sha256"):
                raise FileError(f"{name} has changed since it was written (SHA-256)")
        images = about.get("images")
        if not isinstance(images, list) or not images or not all(isinstance(image, dict) for image in images):
            raise FileError(f"{MANIFEST} names no images")
        found = [
            EvidenceImage(
                _text(image.get("image"), "name of an image"),
                _text(image["error"], "error") if "error" in image else None,
                image,
            )
            for image in images
        ]
        return Evidence(
            folder, _text(about.get("title"), "title"), _texts(about.get("notes"), "notes"), about, tuple(found)
        )
    except DrconvError as error:
        raise FileError(f"{folder} is damaged or not what it claims to be: {error}") from error


def _regular(folder: Path, name: str, size: int) -> Path:
    """Return the path of a file that is in the folder, is no link or device, and has its size."""
    path = folder / name
    try:
        status = path.lstat()
        within = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:
        raise FileError(f"{name} is missing or cannot be read ({error})") from error
    if not stat.S_ISREG(status.st_mode) or not within:
        raise FileError(f"{name} is no regular file of the folder")
    if status.st_size != size:
        raise FileError(f"{name} must have {size} bytes, got {status.st_size}")
    return path


def _check_counts(layer: LayerStatistics, kept: tuple[tuple[int, int], int], mask: Any, file: str) -> None:
    counts = np.bincount(mask.ravel(), minlength=kept[1])
    shares = counts / mask.size
    if (layer.grid, layer.num_regions) != kept or list(layer.region_positions) != counts.tolist():
        raise FileError(f"{file}: positions of the regions of {layer.name} are not those of its map")
    if not np.allclose(shares, layer.region_share, rtol=0, atol=1e-9):
        raise FileError(f"{file}: shares of the regions of {layer.name} are not those of its map")


def _grid(value: Any, what: str) -> tuple[int, int]:
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(type(side) is int and side > 0 for side in value)
        or value[0] * value[1] > _MOST_POSITIONS
    ):
        raise FileError(f"the {what} must be two sides of together at most {_MOST_POSITIONS}, got {str(value)[:40]}")
    return value[0], value[1]


def _texts(value: Any, what: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise FileError(f"the {what} must be a list of texts")
    return tuple(_text(each, what) for each in value)


def _text(value: Any, what: str) -> str:
    """Return a text that may be printed: no control letters, but the stand-ins for bytes of odd file names."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST:
        raise FileError(f"the {what} must be a text of 1 to {_LONGEST} letters")
    if not all(letter.isprintable() or "\udc80" <= letter <= "\udcff" for letter in value):
        raise FileError(f"the {what} holds letters that cannot be printed: {ascii(value)[:60]}")
    return value
