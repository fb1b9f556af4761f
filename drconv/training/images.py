"""Data sets of photos with a class each: read, cropped, and normalised as everywhere else."""

from abc import abstractmethod
from collections.abc import Callable

from PIL import Image
from torch import Tensor

from drconv.checks import positive
from drconv.training.pixels import middle_of
from drconv.training.randomness import Stream, checked_seed, item_seed
from drconv.training.sample import Sample, SampleDataset, no_region_map
from drconv.viz.image import normalised

__all__ = ["ImageDataset"]


class ImageDataset(SampleDataset):
    """Photos with a class each; where they come from is a subclass's matter.

    Args:
        class_names: one per label.
        image_size: height and width of samples, pixels.
        seed: of the augmentation.
        augmenter: (RGB picture, seed) to levels 0 to 1, `[3, image_size, image_size]`; None takes the middle crop.
    """

    def __init__(
        self,
        class_names: tuple[str, ...],
        *,
        image_size: int,
        seed: int,
        augmenter: Callable[[Image.Image, int], Tensor] | None,
    ) -> None:
        super().__init__(class_names, has_region_maps=False)
        self._image_size = positive("image_size", image_size)
        self._seed = checked_seed(seed)
        self._augmenter = augmenter

    @abstractmethod
    def _read(self, index: int) -> tuple[Image.Image, int]:
        """Return an RGB picture and its label.

        Raises:
            FileError: the picture cannot be read; the message names its file.
        """

    def _item(self, index: int) -> Sample:
        image, label = self._read(index)
        if self._augmenter is None:
            levels = middle_of(image, self._image_size)
        else:
            levels = self._augmenter(image, item_seed(Stream.AUGMENTATION, self._seed, self.epoch, index))
        return Sample(normalised(levels).contiguous(), label, no_region_map())
