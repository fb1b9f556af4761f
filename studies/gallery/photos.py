"""What the gallery draws: photos in the public domain from packages, a clip cut out of one, labels, checkpoints.

`python studies/gallery/photos.py FOLDER` writes all of them into a new folder.
"""

import argparse
import shutil
import sys
from pathlib import Path

import torch
from PIL import Image
from skimage import data

from drconv.models import DEMO_WEIGHTS, load_demo_model, read_description, save_weights

__all__ = ["make_checkpoints", "make_inputs"]

_FRAMES, _STEP = 12, 6


def make_inputs(folder: Path) -> None:
    """Write `photos/`, the photos hopper.png and rocket.png again, `pan/` and hopper-labels.png."""
    sys.path.append(str(Path(__file__).parents[1]))
    from photo_segments import segmented_photo

    photos = folder / "photos"
    photos.mkdir()
    for name, image in {"astronaut": data.astronaut, "cat": data.chelsea, "coffee": data.coffee,
                        "rocket": data.rocket}.items():  # fmt: skip
        Image.fromarray(image()).save(photos / f"{name}.png")
    hopper = segmented_photo("grace_hopper")
    with Image.open(hopper.path) as photo:
        photo.save(photos / "hopper.png")
        _cut_clip(photo, folder / "pan")
    for name in ("hopper", "rocket"):
        shutil.copy(photos / f"{name}.png", folder)
    Image.fromarray(hopper.labels).save(folder / "hopper-labels.png")


def _cut_clip(photo: Image.Image, folder: Path) -> None:
    """Move a square window to the right over the photo's upper part."""
    folder.mkdir()
    side = photo.width - _FRAMES * _STEP
    for number in range(_FRAMES):
        left = number * _STEP
        photo.crop((left, 20, left + side, 20 + side)).save(folder / f"{number:02}.png")


def make_checkpoints(folder: Path) -> None:
    """Write before.safetensors, and after.safetensors, in which every filter has moved by a tenth of its size."""
    random = torch.Generator().manual_seed(0)

    def moved(weight: torch.Tensor) -> torch.Tensor:
        if weight.dim() < 2:
            return weight
        return weight + 0.1 * weight.std() * torch.randn(weight.shape, generator=random)

    shutil.copy(DEMO_WEIGHTS, folder / "before.safetensors")
    state = {name: moved(weight) for name, weight in load_demo_model().state_dict().items()}
    save_weights(folder / "after.safetensors", state, read_description(DEMO_WEIGHTS), "bfloat16")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    new = parser.parse_args().folder
    new.mkdir(parents=True)
    make_inputs(new)
    make_checkpoints(new)
