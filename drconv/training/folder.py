"""Photos in folders, one folder per class: which files there are, and the data sets of them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from PIL import Image
from torch import Tensor

from drconv.errors import FileError
from drconv.training.choosing import subset, validation_part
from drconv.training.images import ImageDataset
from drconv.viz.image import read_rgb

__all__ = ["FolderDataset", "LabelledFiles", "check_data_folder", "scan_folder"]

_VALIDATION_NAMES = ("val", "validation")
_PARTS = ({"train", "training"}, {"val", "valid", "validation", "test", "testing"})
"""What other people call the folders of a split, in lower case."""

_LAYOUT = "it must hold one folder of images per class, or such folders inside train/ and val/"


@dataclass(frozen=True)
class LabelledFiles:
    """Image files and their classes.

    Attributes:
        class_names: names of the class folders, sorted.
        train, validation: path and label of every file, sorted by class and name.
    """

    class_names: tuple[str, ...]
    train: tuple[tuple[Path, int], ...]
    validation: tuple[tuple[Path, int], ...]

    def listing(self, root: Path) -> str:
        """Return a digest of which files there are, and of what class, that does not depend on where `root` is."""
        digest = blake2b(digest_size=16)
        for part in (self.train, self.validation):
            for path, label in part:
                digest.update(os.fsencode(path.relative_to(root)) + f"\0{label}\0".encode())
            digest.update(b"\0")
        return digest.hexdigest()


class FolderDataset(ImageDataset):
    """Image files with a class each, read when they are asked for.

    Args:
        files: path and label of every image.
        class_names, image_size, seed, augmenter: as `ImageDataset`.
        size: how many of the files; None takes all.

    Raises:
        ArgumentError: `size` is more than there are.
    """

    def __init__(
        self,
        files: tuple[tuple[Path, int], ...],
        class_names: tuple[str, ...],
        *,
        image_size: int,
        seed: int,
        augmenter: Callable[[Image.Image, int], Tensor] | None = None,
        size: int | None = None,
    ) -> None:
        super().__init__(class_names, image_size=image_size, seed=seed, augmenter=augmenter)
        chosen = subset("size", len(files), size)
        self.files = files if chosen is None else tuple(files[index] for index in chosen)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def _read(self, index: int) -> tuple[Image.Image, int]:
        path, label = self.files[index]
        return read_rgb(path), label


def check_data_folder(root: Path) -> None:
    """Raise if there is no such folder.

    Raises:
        FileError: there is none.
    """
    try:
        if root.is_dir():
            return
    except OSError as error:  # as where its name is too long
        raise FileError(f"cannot look at the data folder {root}: {error.strerror or error}") from error
    raise FileError(f"the data folder does not exist or is no folder, got {root}; {_LAYOUT}")


def scan_folder(root: Path) -> LabelledFiles:
    """List the images of a folder, by class, for training and for validation.

    A folder with `train/` inside is taken as split, and then needs `val/` (or `validation/`) as well. Any other is
    split here: of every class, a tenth of the images and at least one is for validation, always the same ones. Class
    folders may have folders inside. Whatever is hidden, and files without the ending of an image format, are left out.

    Raises:
        FileError: there is no such folder, no class or image in it, an empty class, a class in validation alone, or
            a class of one image that cannot be split.
    """
    check_data_folder(root)
    inside = {path.name: path for path in _folders(root)}
    if "train" not in inside:
        _refuse_parts_as_classes(root, list(inside))
        return _split(root)
    validation = next((inside[name] for name in _VALIDATION_NAMES if name in inside), None)
    if validation is None:
        raise FileError(f"the data folder has train/ and no val/ beside it, got {root}; {_LAYOUT}")
    train, judged = _classes(inside["train"]), _classes(validation)
    extra = sorted(set(judged) - set(train))
    if extra:
        raise FileError(
            f"every class of {validation.name}/ must be in train/ too, got {', '.join(extra)} in {validation} alone; "
            "remove it there, or add images for training"
        )
    names = tuple(train)
    return LabelledFiles(names, _labelled(train, names), _labelled(judged, names))


def _refuse_parts_as_classes(root: Path, names: list[str]) -> None:
    """Raise where the folders are a split by other names, which would else be learned as classes.

    Raises:
        FileError: they are.
    """
    training, validation = ([name for name in names if name.casefold() in part] for part in _PARTS)
    if training and validation:
        got = ", ".join(training + validation)
        raise FileError(f"the folders of a split must be called train and val, got {got} in {root}; rename them")


def _folders(root: Path) -> list[Path]:
    return sorted((path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")), key=_order)


def _order(path: Path) -> str:
    return path.as_posix()


def _hidden(inside: Path) -> bool:
    """Return whether a file is hidden, or lies in a folder that is, as copies of files often do."""
    return any(part.startswith(".") for part in inside.parts)


def _classes(root: Path) -> dict[str, list[Path]]:
    """Return the images of every class folder, both sorted by name."""
    endings = set(Image.registered_extensions())
    found = {
        folder.name: sorted(
            (
                path
                for path in folder.rglob("*")
                if path.suffix.lower() in endings and not _hidden(path.relative_to(folder)) and path.is_file()
            ),
            key=_order,
        )
        for folder in _folders(root)
    }
    if not found:
        raise FileError(f"the data folder has no class folders, got {root}; {_LAYOUT}")
    if not any(found.values()):
        raise FileError(f"the class folders hold no images, got {root} with {', '.join(list(found)[:5])}; {_LAYOUT}")
    for name, files in found.items():
        if not files:
            raise FileError(f"the class folder {root / name} holds no images; add some, or remove the folder")
    return found


def _split(root: Path) -> LabelledFiles:
    classes = _classes(root)
    train, judged = {}, {}
    for part, (name, files) in enumerate(classes.items()):
        if len(files) < 2:
            raise FileError(
                f"a class must have two images or more to be split for training and validation, got {len(files)} "
                f"in {root / name}; add one, or split the data yourself into train/ and val/"
            )
        kept, held = validation_part(len(files), part)
        train[name], judged[name] = [files[i] for i in kept], [files[i] for i in held]
    names = tuple(classes)
    return LabelledFiles(names, _labelled(train, names), _labelled(judged, names))


def _labelled(classes: dict[str, list[Path]], names: tuple[str, ...]) -> tuple[tuple[Path, int], ...]:
    return tuple((path, label) for label, name in enumerate(names) for path in classes.get(name, ()))
