"""Data sets of the Hugging Face hub, of its cache or of a local folder, through `datasets` (extra `train`)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
from PIL import Image
from torch import Tensor

from drconv.errors import DrconvError, FileError
from drconv.training.choosing import subset, validation_part
from drconv.training.images import ImageDataset
from drconv.viz.image import read_rgb, rgb_from_bytes

__all__ = ["HubData", "HubDataset", "load_hub"]

_VALIDATION_NAMES = ("validation", "valid", "val", "test")
_IMAGE_NAMES = ("image", "img")
_LABEL_NAMES = ("label", "labels", "fine_label", "class")


@dataclass(frozen=True, eq=False)
class HubData:
    """The two parts of a data set, and where its pictures and classes are.

    Attributes:
        name: as it was asked for.
        class_names: one per label.
        train, validation: tables of `datasets`.
        image_column, label_column: names of the columns.
    """

    name: str
    class_names: tuple[str, ...]
    train: Any
    validation: Any
    image_column: str
    label_column: str


class HubDataset(ImageDataset):
    """The pictures of one table, decoded when they are asked for.

    Args:
        data: what `load_hub` returned.
        table: `data.train` or `data.validation`.
        image_size, seed, augmenter: as `ImageDataset`.
        size: how many of the pictures; None takes all.

    Raises:
        ArgumentError: `size` is more than there are.
    """

    def __init__(
        self,
        data: HubData,
        table: Any,
        *,
        image_size: int,
        seed: int,
        augmenter: Callable[[Image.Image, int], Tensor] | None = None,
        size: int | None = None,
    ) -> None:
        super().__init__(data.class_names, image_size=image_size, seed=seed, augmenter=augmenter)
        chosen = subset("size", len(table), size)
        table = table if chosen is None else table.select(chosen)
        # Decoded here and not by datasets, so that a damaged picture is named like any other.
        self._table = table.cast_column(data.image_column, datasets.Image(decode=False))
        self._data = data
        self._labels = {name: label for label, name in enumerate(data.class_names)}

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._table)

    def _read(self, index: int) -> tuple[Image.Image, int]:
        row = self._table[index]
        picture, label = row[self._data.image_column], row[self._data.label_column]
        if picture is None:
            raise FileError(f"row {index} of the data set {self._data.name} has no image; remove the row")
        where = f"{picture['path'] or 'an image'} in row {index} of the data set {self._data.name}"
        image = rgb_from_bytes(picture["bytes"], where) if picture["bytes"] else read_rgb(Path(picture["path"]))
        if isinstance(self._table.features[self._data.label_column], datasets.ClassLabel):
            return image, int(label)
        return image, self._labels[str(label)]


def load_hub(name: str, *, allow_download: bool) -> HubData:
    """Open a data set of pictures with one class each.

    The part `train` is for training. For validation serves the first there is of `validation`, `valid`, `val` and
    `test`; without any, a tenth of `train` that is always the same. A column of type `Image` holds the pictures and
    one of type `ClassLabel`, or else one called `label`, the classes.

    Args:
        name: of the hub, such as `ylecun/mnist`, with `:CONFIG` behind it where there are several configurations; or
            the path of a folder that `datasets` can load or has saved.
        allow_download: whether the network may be used; otherwise only what is on this machine.

    Raises:
        FileError: the data set is not there, or cannot be read.
        DrconvError: it has no part for training, or it is not clear which column holds pictures or classes.
    """
    tables = _tables(name, allow_download=allow_download)
    if "train" not in tables:
        raise DrconvError(f"a data set must have a part called train, got {', '.join(tables)} in {name}")
    train = tables["train"]
    validation = next((tables[part] for part in _VALIDATION_NAMES if part in tables), None)
    if validation is None:
        if len(train) < 2:
            raise FileError(f"a data set must have two images or more to be split, got {len(train)} in {name}")
        kept, held = validation_part(len(train))
        train, validation = train.select(kept), train.select(held)
    if not len(train) or not len(validation):
        raise FileError(f"a data set must have images, got {len(train)} and {len(validation)} rows in {name}")
    kinds = train.features
    images = [column for column, kind in kinds.items() if isinstance(kind, datasets.Image)]
    image = _column(name, "pictures", images, _IMAGE_NAMES, list(kinds))
    labels = [column for column, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)]
    label = _column(name, "classes", labels or [n for n in _LABEL_NAMES if n in kinds], _LABEL_NAMES, list(kinds))
    return HubData(name, _class_names(name, train, validation, label), train, validation, image, label)


def _column(name: str, what: str, found: list[str], usual: tuple[str, ...], every: list[str]) -> str:
    chosen = next((column for column in usual if column in found), found[0] if len(found) == 1 else None)
    if chosen is None:
        got = f"{', '.join(found)} all could" if found else f"none of {', '.join(every)} does"
        raise DrconvError(f"one column of the data set {name} must hold the {what}, called {usual[0]}; {got}")
    return chosen


def _class_names(name: str, train: Any, validation: Any, column: str) -> tuple[str, ...]:
    kind = train.features[column]
    seen = set(train.unique(column)), set(validation.unique(column))
    if isinstance(kind, datasets.ClassLabel):
        strange = [
            label for label in seen[0] | seen[1] if not isinstance(label, int) or not 0 <= label < len(kind.names)
        ]
        if strange:
            raise DrconvError(
                f"every image of the data set {name} must have a class of {len(kind.names)}, got {strange[0]!r} "
                f"in column {column}; the part may be one without labels"
            )
        return tuple(kind.names)
    if None in seen[0] | seen[1]:
        raise DrconvError(f"every image of the data set {name} must have a class, got none in column {column}")
    extra = sorted(map(str, seen[1] - seen[0]))
    if extra:
        raise DrconvError(f"every class of validation must be in train too, got {', '.join(extra[:5])} in {name}")
    return tuple(map(str, sorted(seen[0])))


def _tables(name: str, *, allow_download: bool) -> dict[str, Any]:
    if not name.strip(": "):
        raise FileError(f"a data set of the hub must have a name, such as hf:ylecun/mnist, got {name!r} behind hf:")
    path = Path(name)
    try:
        with _quiet(), _network(allowed=allow_download):
            if path.is_dir():
                saved = (path / "dataset_dict.json").exists() or (path / "state.json").exists()
                loaded = datasets.load_from_disk(name) if saved else datasets.load_dataset(name)
            else:
                loaded = datasets.load_dataset(*name.split(":", 1))
    except (ConnectionError, FileNotFoundError) as error:
        if allow_download:
            raise FileError(f"the data set {name} cannot be fetched ({_short(error)})") from error
        raise FileError(
            f"the data set {name} is neither a folder nor in the cache of this machine ({_short(error)}); "
            "allow the download (--download) to fetch it from the hub"
        ) from error
    except Exception as error:  # whatever readers of a dozen formats raise
        raise FileError(f"the data set {name} cannot be loaded ({_short(error)})") from error
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + " ..."


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep `datasets` from drawing bars and from logging while it loads."""
    level, bars = datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()


@contextmanager
def _network(*, allowed: bool) -> Iterator[None]:
    """Put both libraries into their offline mode unless the network is allowed; they read these names at each use."""
    homes: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [home.HF_HUB_OFFLINE for home in homes]
    try:
        for home in homes:
            home.HF_HUB_OFFLINE = home.HF_HUB_OFFLINE or not allowed
        yield
    finally:
        for home, value in zip(homes, before, strict=True):
            home.HF_HUB_OFFLINE = value
