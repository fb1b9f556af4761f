"""What the gallery draws: photos in the public domain from packages, a clip cut out of one, labels, checkpoints.

`python studies/gallery/photos.py FOLDER` writes all but the checkpoints into a new folder.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from skimage import data

__all__ = ["make_checkpoints", "make_inputs"]

_FRAMES, _STEP = 12, 6


def make_inputs(folder: Path) -> None:
    """Write `photos/`, the photos cat.png and rocket.png again, `pan/` and cat-labels.png."""
    photos = folder / "photos"
    photos.mkdir()
    for name, image in {"astronaut": data.astronaut, "cat": data.chelsea, "coffee": data.coffee,
                        "rocket": data.rocket}.items():  # fmt: skip
        Image.fromarray(image()).save(photos / f"{name}.png")
    with get_sample_data("grace_hopper.jpg") as file, Image.open(file) as photo:
        photo.save(photos / "hopper.png")
    for name in ("cat", "rocket"):
        shutil.copy(photos / f"{name}.png", folder)
    with Image.open(folder / "cat.png") as cat:
        _cut_clip(cat.convert("RGB"), folder / "pan")
        _draw_labels(cat.size).save(folder / "cat-labels.png")


def _cut_clip(photo: Image.Image, folder: Path) -> None:
    """Move a window to the right over the photo."""
    folder.mkdir()
    width = photo.width - _FRAMES * _STEP
    for number in range(_FRAMES):
        window = photo.crop((number * _STEP, 20, number * _STEP + width, photo.height - 20))
        window.save(folder / f"{number:02}.png")


def _draw_labels(size: tuple[int, int]) -> Image.Image:
    """Return classes drawn by hand for the cat, roughly: 0 behind it, 1 fur, 2 eyes, 3 nose; 255 near the outline."""
    labels = Image.new("L", size, 0)
    pen = ImageDraw.Draw(labels)
    head = [(0, 300), (0, 90), (60, 0), (300, 0), (345, 60), (365, 140), (350, 215), (300, 262), (200, 300)]
    pen.polygon(head, fill=1)
    pen.line([*head[4:], head[8]], fill=255, width=9)
    for box in ((125, 78, 215, 152), (290, 108, 345, 168)):
        pen.ellipse(box, fill=2)
    pen.ellipse((230, 218, 295, 262), fill=3)
    return labels


def make_checkpoints(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Write before.safetensors, and after.safetensors, in which every filter has moved by a tenth of its size."""
    random = torch.Generator().manual_seed(0)

    def moved(weight: torch.Tensor) -> torch.Tensor:
        if weight.dim() < 2:
            return weight
        return weight + 0.1 * weight.std() * torch.randn(weight.shape, generator=random)

    state = {name: weight.detach().contiguous() for name, weight in state.items()}
    save_file(state, folder / "before.safetensors")
    save_file({name: moved(weight) for name, weight in state.items()}, folder / "after.safetensors")
    assert np.isfinite(sum(float(weight.double().sum()) for weight in state.values()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    new = parser.parse_args().folder
    new.mkdir(parents=True)
    make_inputs(new)
