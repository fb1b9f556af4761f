"""Random crops, flips and colours for photos, by kornia (extra `train`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

import torch
from kornia.augmentation import ColorJitter, ImageSequential, RandomHorizontalFlip, RandomResizedCrop
from PIL import Image
from torch import Tensor

from drconv.training.pixels import levels_of
from drconv.training.randomness import seeded_torch

__all__ = ["AUGMENTATIONS", "Augmentation", "Augmenter"]


@dataclass(frozen=True)
class Augmentation:
    """How much of an image is left to chance.

    Attributes:
        least_area: least share of the image that a crop keeps; its sides have a ratio of 3:4 to 4:3.
        jitter: greatest change of brightness, contrast and saturation, as a share.
    """

    least_area: float
    jitter: float


AUGMENTATIONS = MappingProxyType({"light": Augmentation(0.35, 0.2), "standard": Augmentation(0.08, 0.4)})
"""By name; all of them flip half of the images. `standard` is what the ShuffleNet authors' training code does."""


class Augmenter:
    """Crops, resizes, flips and recolours photos, the same way for the same seed.

    Args:
        augmentation: how much.
        size: height and width of the result, pixels.
    """

    def __init__(self, augmentation: Augmentation, size: int) -> None:
        self.size = size
        jitter = augmentation.jitter
        self._crop = RandomResizedCrop((size, size), scale=(augmentation.least_area, 1.0))
        self._after = ImageSequential(RandomHorizontalFlip(p=0.5), ColorJitter(jitter, jitter, jitter, 0.0))

    @torch.no_grad()
    def __call__(self, image: Image.Image, seed: int) -> Tensor:
        """Return levels 0 to 1, `[3, size, size]`.

        Args:
            image: RGB.
            seed: of everything random.
        """
        width, height = image.size
        with seeded_torch(seed), _one_thread():
            corners = self._crop.generate_parameters(torch.Size((1, 3, height, width)))["src"][0]  # of pixels, x and y
            left, top = corners[0].tolist()
            right, bottom = (corners[2] + 1).tolist()
            # kornia chooses the crop and Pillow makes it: kornia's own has no filter against aliasing.
            box = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
            cropped = image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box)
            result: Tensor = self._after(levels_of(cropped)[None])[0]
        return result.clamp(0, 1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let no threads share a sum: kornia takes means over an image, whose last bit depends on how many do.

    A process that only loads images has one thread, and must make the same images as one that also trains.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
