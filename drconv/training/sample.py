"""What training reads: one sample, and the data sets whose every item depends on (seed, epoch, index) alone."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from drconv.errors import ArgumentError

__all__ = ["Sample", "SampleDataset", "no_region_map"]


class Sample(NamedTuple):
    """One image of a data set, or a batch of them after torch's collation.

    Attributes:
        image: as a model takes it, float32, `[3, H, W]`: RGB 0 to 1, then the mean and deviation of ImageNet taken
            out by `drconv.viz.image.normalised`, which `load_image` uses too.
        label: index into the class names of the data set.
        region_map: true region of every pixel, int64, `[H, W]`, numbers 0 to K - 1 without gaps; `[0, 0]` where the
            data knows no regions, so that batches of either kind can be collated.
    """

    image: Tensor
    label: int
    region_map: Tensor


def no_region_map() -> Tensor:
    """Return the region map of data without regions, `[0, 0]`."""
    return torch.empty((0, 0), dtype=torch.int64)


class SampleDataset(Dataset[Sample], ABC):
    """A map-style data set whose items are pure functions of (seed, epoch, index).

    Neither the number of data-loader workers nor that of processes changes an item, and a run that is resumed at an
    epoch sees what the first one saw. The epoch lies in shared memory, so that workers that live on between epochs
    (`persistent_workers=True`) follow it.

    Args:
        class_names: one per label.
        has_region_maps: whether samples carry a true region map.
    """

    def __init__(self, class_names: tuple[str, ...], *, has_region_maps: bool) -> None:
        self.class_names = class_names
        self.has_region_maps = has_region_maps
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        """The epoch of the items that are read next."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch is read next; to be called before a data loader is iterated.

        Raises:
            ArgumentError: the epoch is negative.
        """
        if epoch < 0:
            raise ArgumentError(f"the epoch must be at least 0, got {epoch}")
        self._epoch.fill_(epoch)

    @abstractmethod
    def __len__(self) -> int:
        """Return how many items there are."""

    def __getitem__(self, index: int) -> Sample:
        """Return one item of the current epoch.

        Raises:
            IndexError: there is no such item, as Python's sequence protocol asks.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"the index must be 0 to {len(self) - 1}, got {index}")
        return self._item(int(index))

    @abstractmethod
    def _item(self, index: int) -> Sample:
        """Return an item whose index is known to exist."""
