"""Writes an evidence folder, whole or not at all."""

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from hashlib import file_digest
from math import isfinite
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from drconv.analysis import RegionStatistics
from drconv.errors import FileError
from drconv.regions.evidence import CAVEATS, KIND, MANIFEST, SCHEMA, check_evidence_free
from drconv.regions.index_map import map_to_png, photo_to_png
from drconv.regions.map_arrays import arrays_to_npz
from drconv.version import __version__

__all__ = ["EvidenceWriter", "sha256_of"]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits.

    Raises:
        FileError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error


class EvidenceWriter:
    """An evidence folder in the making, under a temporary name beside the one that it will have.

    Leaving its `with` block before `finish` deletes what there is.

    Example:
        >>> with EvidenceWriter(Path("evidence")) as writer:
        ...     writer.add(0, "photo.jpg", Path("photo.jpg"), regions.pixels, regions.statistics, regions.guided_masks,
        ...                regions.margins)
        ...     writer.finish("Net")

    Attributes:
        path: where it is being made.
        entries: of the manifest, by place among all images.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._target = folder, folder.resolve()
        self.entries: dict[int, dict[str, Any]] = {}
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self.path = Path(mkdtemp(dir=self._target.parent, prefix=".drconv-evidence-"))
        except OSError as error:
            raise self._cannot(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def add(
        self,
        index: int,
        image: str,
        source: Path | None,
        pixels: NDArray[np.uint8],
        statistics: RegionStatistics,
        guided_masks: Mapping[str, NDArray[Any]],
        margins: Mapping[str, NDArray[Any]],
        notes: Sequence[str] = (),
    ) -> None:
        """Write the files of one image.

        Args:
            index: its place among all images.
            image: what it is called.
            source: its file, whose SHA-256 goes into the manifest; None if it never was one.
            pixels: as the network saw it, `[H, W, 3]`.
            statistics: of its layers.
            guided_masks: by layer name, `[U, V]` each.
            margins: by layer name, `[U, V]` each.
            notes: on how it was read.
        """
        home = f"images/{index:06d}"
        layers = []
        self._write(f"{home}/photo.png", photo_to_png(pixels))
        for place, layer in enumerate(statistics.layers):
            name = re.sub(r"[^A-Za-z0-9._-]", "_", layer.name)[:80]
            file = f"{home}/{place:03d}-{name}.png"  # the number tells layers apart whose names differ in odd letters
            self._write(file, map_to_png(guided_masks[layer.name], layer.num_regions))
            layers.append({"name": layer.name, "grid": list(layer.grid), "num_regions": layer.num_regions, "map": file})
        numbers = {layer.name: layer.num_regions for layer in statistics.layers}
        kept = {name: guided_masks[name] for name in numbers}
        self._write(f"{home}/regions.npz", arrays_to_npz(kept, margins, numbers))
        self._write(f"{home}/statistics.json", _json(statistics.to_dict()))
        self.entries[index] = {
            "image": image,
            "sha256": None if source is None else sha256_of(source),
            "size": list(pixels.shape[:2]),
            "notes": list(notes),
            "photo": f"{home}/photo.png",
            "regions": f"{home}/regions.npz",
            "statistics": f"{home}/statistics.json",
            "layers": layers,
        }

    def fail(self, index: int, image: str, error: str) -> None:
        """Keep why an image has no files."""
        self.entries[index] = {"image": image, "error": error}

    def absorb(self, path: Path, entries: Mapping[int, dict[str, Any]]) -> None:
        """Take over the images of another writer on the same file system, such as one of another process."""
        for index, entry in entries.items():
            if "error" not in entry:
                home = self.path / "images"
                try:
                    home.mkdir(exist_ok=True)
                    (path / "images" / f"{index:06d}").rename(home / f"{index:06d}")
                except OSError as error:
                    raise self._cannot(error) from error
            self.entries[index] = entry

    def finish(
        self,
        title: str,
        notes: Sequence[str] = (),
        about: Mapping[str, Any] | None = None,
        statistics: bytes | None = None,
        figures: Iterable[Path] = (),
        rows: Path | None = None,
        force: bool = False,
    ) -> None:
        """Write what belongs to all images, the manifest last, and give the folder its name.

        Args:
            title: what the model is called.
            notes: lines below every picture and table.
            about: JSON-ready values on the model, its weights, the arguments and the environment.
            statistics: contents of `statistics.json`.
            figures: pictures that are copied.
            rows: CSV that is copied as `images.csv`.
            force: whether an evidence folder of that name is replaced.

        Raises:
            FileError: the folder cannot be written, or one that exists must not be replaced.
        """
        if statistics is not None:
            self._write("statistics.json", statistics)
        copies = {f"figures/{figure.name}": figure for figure in figures} | ({"images.csv": rows} if rows else {})
        for name, source in copies.items():
            try:
                self._write(name, source.read_bytes())
            except OSError as error:
                raise self._cannot(error) from error
        files = {
            path.relative_to(self.path).as_posix(): {"size": path.stat().st_size, "sha256": sha256_of(path)}
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
        }
        manifest = {
            "kind": KIND,
            "schema": SCHEMA,
            "drconv": __version__,
            "torch": torch.__version__,
            "caveats": list(CAVEATS),
            "title": title,
            "notes": list(notes),
            **(about or {}),
            "images": [self.entries[index] for index in sorted(self.entries)],
            "files": files,
        }
        self._write(MANIFEST, _json(manifest))
        check_evidence_free(self._folder, force)  # once more: the work between may have taken hours
        try:
            self._rename()
        except OSError as error:
            raise self._cannot(error) from error

    def _rename(self) -> None:
        mask = os.umask(0)
        os.umask(mask)
        self.path.chmod(0o777 & ~mask)  # mkdtemp makes folders private
        if not self._target.exists():
            self.path.rename(self._target)
            return
        old = Path(mkdtemp(dir=self._target.parent, prefix=".drconv-replaced-"))
        self._target.rename(old / "old")
        try:
            self.path.rename(self._target)
        except OSError:
            (old / "old").rename(self._target)
            raise
        finally:
            shutil.rmtree(old, ignore_errors=True)

    def _write(self, name: str, data: bytes) -> None:
        path = self.path / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise self._cannot(error) from error

    def _cannot(self, error: OSError) -> FileError:
        return FileError(f"cannot write {self._folder}: {error.strerror or error}")


def _json(value: Any) -> bytes:
    return (json.dumps(_clean(value), indent=1, allow_nan=False) + "\n").encode()


def _clean(value: Any) -> Any:
    """Return a value with null in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)
