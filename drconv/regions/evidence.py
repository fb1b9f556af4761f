"""The evidence folder: its layout, and whether a folder may be written or replaced."""

import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

from drconv.errors import FileError

__all__ = ["CAVEATS", "KIND", "MANIFEST", "SCHEMA", "check_evidence_free", "read_manifest"]

SCHEMA = 1
"""Version of the folder; a name that changes meaning or goes away raises it."""

KIND = "drconv evidence"
MANIFEST = "manifest.json"
CAVEATS = (
    "Region maps show which filter each position was routed to. They are not semantic segments.",
    "Regions are numbered arbitrarily: one number in two layers, or in two trainings, does not mean one region.",
    "The maps are not causal: they do not show which positions the output depends on, or why.",
    "Margins are differences of softmax values of the guide. They are not calibrated probabilities of anything.",
)

_MAX_MANIFEST = 256 * 2**20


def check_evidence_free(folder: Path, force: bool) -> None:
    """Raise before any work is done if an evidence folder could not be written.

    Raises:
        FileError: the path exists and `force` is off, it is anything but an evidence folder and nothing else, or its
            parent cannot be written.
    """
    try:
        target = folder.resolve()
        if target.exists() or folder.is_symlink():
            if not force:
                raise FileError(f"{folder} exists and is kept; use --force to replace it, or another name")
            _check_ours(target, folder)
        parent = next(above for above in target.parents if above.exists())
    except (OSError, RuntimeError) as error:
        raise FileError(f"cannot write {folder}: {error}") from error
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise FileError(f"cannot write {folder}: {parent} is no directory that may be written")


def _check_ours(target: Path, shown: Path) -> None:
    """Raise unless a folder is evidence and holds nothing that its manifest does not name."""
    refusal = f"{shown} is not replaced, not even with --force"
    if not target.is_dir():
        raise FileError(f"{refusal}: it is no directory; use another name")
    try:
        listed = {MANIFEST, *read_manifest(target)["files"]}
    except FileError as error:
        raise FileError(f"{refusal}: {error}; use another name") from None
    found = {
        path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_symlink() or not path.is_dir()
    }
    if others := sorted(found - listed):
        raise FileError(f"{refusal}: it also holds {', '.join(others[:3])}; move that, or use another name")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a manifest whose kind, schema and file names are what they must be.

    Raises:
        FileError: there is none, or it is not one of ours, or names a file outside the folder.
    """
    path = folder / MANIFEST
    try:
        if not folder.is_dir():
            raise FileError(f"an evidence folder must be a directory, got {folder}")
        if not path.is_file() or path.is_symlink():
            raise FileError(f"{folder} is no evidence folder: it has no {MANIFEST}; make one with --evidence")
        if path.stat().st_size > _MAX_MANIFEST:
            raise FileError(f"{path} is larger than any manifest ({_MAX_MANIFEST} bytes)")
        data = json.loads(path.read_bytes(), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise FileError(f"{folder} is no evidence folder: {path.name} is not of kind {KIND!r}")
    if type(data.get("schema")) is not int or data["schema"] != SCHEMA:
        raise FileError(
            f"{folder} has schema {ascii(data.get('schema'))[:20]}, and this version of drconv reads {SCHEMA}; "
            f"it was written by drconv {ascii(data.get('drconv'))[:20]}"
        )
    files = data.get("files")
    if not isinstance(files, dict):
        raise FileError(f"{path} names no files")
    for name in files:
        parts = PurePosixPath(name).parts
        inside = parts and not name.startswith("/") and ".." not in parts and "/".join(parts) == name
        if not inside or "\\" in name or ":" in name or not name.isprintable():
            raise FileError(f"{path} names {name[:60]!r}, which is no plain path inside the folder")
    return data


def _refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}, which is no JSON")
