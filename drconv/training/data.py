"""All data that can be trained on behind one function: mosaics, a folder of class folders, sets of the hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drconv.errors import ArgumentError
from drconv.registry import unknown_name
from drconv.training.choosing import subset
from drconv.training.extras import load_extra
from drconv.training.folder import FolderDataset, check_data_folder, scan_folder
from drconv.training.mosaic import MosaicDataset
from drconv.training.sample import SampleDataset

__all__ = ["AUGMENTATION_NAMES", "TrainingData", "check_data", "load_data"]

AUGMENTATION_NAMES = ("none", "light", "standard")
"""What `load_data` takes as `augment`."""

_MOSAICS = ("mosaic", "mosaic+photos")
_MOSAIC_SIZES = (12_000, 1_000)  # images of an epoch and for validation, unless asked otherwise
_VALIDATION_SEED = 0
_HUB = "hf:"


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Data for training and for judging what was trained.

    Attributes:
        name: as it was asked for.
        train, validation: data sets with the same classes.
        class_names: one per label.
        has_region_maps: whether samples carry a true region map.
        listing: digest of the names of all files and of their classes, wherever their folder is; None where `name` says
            all.
        augment: how the training images are augmented.
    """

    name: str
    train: SampleDataset
    validation: SampleDataset
    class_names: tuple[str, ...]
    has_region_maps: bool
    listing: str | None = None
    augment: str = "none"

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def check_data(spec: str) -> None:
    """Raise if data are named by a folder that does not exist; nothing is read, and nothing fetched.

    Args:
        spec: as `load_data` takes it.

    Raises:
        FileError: there is no such folder.
    """
    if spec not in _MOSAICS and not spec.startswith(_HUB):
        check_data_folder(Path(spec))


def load_data(
    spec: str,
    *,
    image_size: int,
    seed: int,
    augment: str | None = None,
    train_size: int | None = None,
    validation_size: int | None = None,
    allow_download: bool = False,
) -> TrainingData:
    """Open data by its name.

    Args:
        spec: `mosaic`; `mosaic+photos`, which needs scikit-image; `hf:NAME` or `hf:NAME:CONFIG`, a data set of the hub
            or a local folder of the library `datasets`; or a folder of class folders, written with a slash if it is
            called like one of the former.
        image_size: height and width of samples, pixels.
        seed: of everything random in training items. Validation does not depend on it, so that runs with several
            seeds are judged by the same images.
        augment: `none`, `light` or `standard`, for the training images; None stands for `standard`, and for `none` with
            mosaics, which are new in every epoch and take no other.
        train_size: images of an epoch; of a folder or hub set, how many of the images there are, always the same.
            None takes all, and 12,000 mosaics.
        validation_size: the same for validation; None takes all, and 1,000 mosaics.
        allow_download: whether a hub set may be fetched; nothing else ever uses the network.

    Raises:
        ArgumentError: a size, the seed or `augment` is not usable.
        UnknownNameError: there is no such augmentation.
        FileError: the data are not there or not as they should be; damaged images show only when they are read.
        DrconvError: an optional package is missing, or the columns of a hub set are not clear.
    """
    if augment is not None and augment not in AUGMENTATION_NAMES:
        raise unknown_name("augmentation", augment, AUGMENTATION_NAMES)
    if spec in _MOSAICS:
        return _mosaics(spec, image_size, seed, augment, train_size, validation_size)
    listing = None
    if spec.startswith(_HUB):
        source = load_extra("drconv.training.hub", "reading data sets of the hub")
        data = source.load_hub(spec.removeprefix(_HUB), allow_download=allow_download)
        parts: dict[str, Any] = {"train": (data, data.train), "validation": (data, data.validation)}
        kind, names, tables = source.HubDataset, data.class_names, {"train": data.train, "validation": data.validation}
    else:
        files = scan_folder(Path(spec))
        kind, names, tables = FolderDataset, files.class_names, {"train": files.train, "validation": files.validation}
        parts = {"train": (files.train, names), "validation": (files.validation, names)}
        listing = files.listing(Path(spec))
    chosen = augment or "standard"
    for part, size in (("train", train_size), ("validation", validation_size)):
        subset(f"{part}_size", len(tables[part]), size)
    train, validation = (
        kind(*parts[part], image_size=image_size, seed=seed, size=size, augmenter=augmenter)
        for part, size, augmenter in (
            ("train", train_size, _augmenter(chosen, image_size)),
            ("validation", validation_size, None),
        )
    )
    return TrainingData(spec, train, validation, names, has_region_maps=False, listing=listing, augment=chosen)


def _mosaics(
    spec: str, image_size: int, seed: int, augment: str | None, train_size: int | None, validation_size: int | None
) -> TrainingData:
    if augment not in (None, "none"):
        raise ArgumentError(
            f"mosaics are new in every epoch and cannot be augmented, got augment={augment!r}; leave it out"
        )
    photos = spec == _MOSAICS[1]
    many, few = (
        default if size is None else size
        for size, default in zip((train_size, validation_size), _MOSAIC_SIZES, strict=True)
    )
    train = MosaicDataset(many, image_size, seed, photos=photos)
    validation = MosaicDataset(few, image_size, _VALIDATION_SEED, split="validation", photos=photos)
    return TrainingData(spec, train, validation, train.class_names, has_region_maps=True)


def _augmenter(name: str, image_size: int) -> Any:
    """Return what augments, or None for the middle crop."""
    if name == "none":
        return None
    module = load_extra("drconv.training.augment", f"the augmentation '{name}'")
    return module.Augmenter(module.AUGMENTATIONS[name], image_size)
