"""Which images a command was given: files, directories, patterns, lists, stdin."""

import os
import sys
from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path

from drconv.errors import FileError

__all__ = [
    "IMAGE_SUFFIXES",
    "STDIN",
    "STDIN_NAME",
    "check_there",
    "find_images",
    "is_directory",
    "read_stdin",
    "short_names",
]

STDIN = "-"
STDIN_NAME = Path("stdin")
"""What the image on stdin is called, in messages and in what is written."""
IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".jp2", ".avif")
)
"""What counts as an image in a directory; a file that is named is read whatever its suffix."""


def find_images(arguments: Sequence[str]) -> list[Path]:
    """Return the image files that arguments stand for, in order, each once.

    Args:
        arguments: paths of files; of directories, searched with what is below them, in alphabetical order; patterns
            with `*`, `?`, `[...]` or `**`; `@FILE` with one path per line.

    Raises:
        FileError: a directory or pattern holds no image, a list cannot be read, or a path cannot be looked at.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        try:
            found.update(dict.fromkeys(_expand(argument)))
        except OSError as error:
            raise FileError(f"cannot look for images at {argument!r}: {error.strerror or error}") from error
    return list(found)


def _expand(argument: str) -> Iterator[Path]:
    if not argument:
        raise FileError("an image's path is empty, as that of an unset variable is; give a file or a directory")
    path = Path(argument)
    if argument == STDIN and not path.exists():
        raise FileError("'-' (an image on stdin) goes alone, got other images with it; run the command twice")
    if argument.startswith("@") and not path.exists():
        yield from _listed(Path(argument[1:]))
    elif path.is_dir():
        yield from _in_directory(path)
    elif has_magic(argument) and not path.exists():
        # Not Path.glob, which takes no absolute pattern.
        matches = [path for name in sorted(glob(argument, recursive=True)) if (path := Path(name)).is_file()]  # noqa: PTH207
        if not matches:
            raise FileError(f"no file matches the pattern {argument!r}; give a file, a directory or another pattern")
        yield from matches
    else:
        yield path


def _in_directory(directory: Path) -> list[Path]:
    images = sorted(path for path in directory.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not images:
        raise FileError(f"the directory {directory} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return images


def check_there(images: Sequence[Path]) -> None:
    """Raise before any other work if none of the images exists; where only some are missing, the others are drawn.

    Raises:
        FileError: none exists.
    """
    if not all(_is_missing(image) for image in images):
        return
    first = f"the image file does not exist, got {images[0]}; give a PNG, JPEG, GIF, TIFF, BMP or WebP file"
    raise FileError(f"none of {len(images)} images could be drawn; the first: {first}" if images[1:] else first)


def short_names(images: Sequence[Path]) -> list[Path]:
    """Return each image's file name, with its folder's in front where images of several folders share a stem."""
    folders: dict[str, set[Path]] = {}
    for image in images:
        folders.setdefault(image.stem, set()).add(image.parent)
    return [Path(image.parent.name if _tells(image, folders) else "", image.name) for image in images]


def _tells(image: Path, folders: dict[str, set[Path]]) -> bool:
    """Return whether the name of an image's folder tells it from others; `..` is no name."""
    return len(folders[image.stem]) > 1 and image.parent.name != ".."


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # what else is wrong with it is said when it is read
        return False
    return False


def is_directory(path: Path) -> bool:
    """Return whether a path is a directory.

    Raises:
        FileError: it cannot be looked at, as where its name is too long.
    """
    try:
        return path.is_dir()
    except OSError as error:
        raise FileError(f"cannot look at {path}: {error.strerror or error}") from error


def _listed(path: Path) -> list[Path]:
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise FileError(
            f"the list of images cannot be read, got @{path} ({reason}); give a text file of paths"
        ) from None
    if b"\0" in data:  # no path holds it, and binary files do
        raise FileError(f"the list of images is no text, got @{path}; write one path per line")
    # Names of files are bytes: those that are no UTF-8 come through as they are.
    lines = os.fsdecode(data.removeprefix(b"\xef\xbb\xbf")).splitlines()
    images = [Path(line.strip()) for line in lines if line.strip()]
    if not images:
        raise FileError(f"the list of images is empty, got @{path}; write one path per line")
    return images


def read_stdin(directory: Path) -> Path:
    """Write the image that comes over stdin to a file of a directory, and return its path."""
    if sys.stdin is None or sys.stdin.isatty():
        raise FileError("'-' reads an image from stdin, got a terminal; use: drconv visualize - < photo.jpg")
    path = directory / STDIN_NAME
    path.write_bytes(sys.stdin.buffer.read())
    return path
