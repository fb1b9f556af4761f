"""Crops of the training photos with their hand-drawn segments, at many scales; the demo weights learn from them.

`python studies/photo_crops.py SHEET.png` draws some of them, each over its segments.
"""

import argparse
from math import log
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from photo_segments import COLOURS, IGNORED, segmented_photos, upright
from PIL import Image
from torch import Tensor

_LARGEST = 224  # pixels: a crop is cut of a photo whose shorter side is between the crop's size and this
_STRETCH = 0.2  # how far the logarithm of a side may be from that
_KNOWN = 0.6  # least share of a crop's pixels that lie in a segment
_MIXED = 0.93  # a crop of which one segment takes more than this ...
_PLAIN = 0.02  # ... is kept this often

Box = tuple[float, float, float, float]


def draw_crops(count: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return crops as bytes `[N, 3, S, S]`, and the segment of every pixel `[N, S, S]`, `IGNORED` where unknown."""
    random = np.random.default_rng(seed)
    photos = [(upright(photo.path), Image.fromarray(photo.labels)) for photo in segmented_photos("training")]
    crops = torch.empty(count, 3, size, size, dtype=torch.uint8)
    maps = torch.empty(count, size, size, dtype=torch.uint8)
    drawn = 0
    while drawn < count:
        photo, labels = photos[random.integers(len(photos))]
        box = _box(photo.size, size, random)
        segments = np.array(labels.resize((size, size), Image.Resampling.NEAREST, box=box))
        if not _wanted(segments, random):
            continue
        crop = photo.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
        crops[drawn] = torch.from_numpy(np.array(crop)).permute(2, 0, 1)
        maps[drawn] = torch.from_numpy(segments)
        drawn += 1
    return crops, maps


def _box(photo: tuple[int, int], size: int, random: Generator) -> Box:
    """Draw what part of a photo to show, in its pixels: left, top, right, bottom."""
    shorter = np.exp(random.uniform(log(size), log(_LARGEST)))
    sides = size / shorter * min(photo) * np.exp(random.uniform(-_STRETCH, _STRETCH, 2))
    width, height = np.minimum(sides, photo)
    left, top = random.uniform(0, photo[0] - width), random.uniform(0, photo[1] - height)
    return left, top, left + width, top + height


def _wanted(segments: NDArray[np.uint8], random: Generator) -> bool:
    counts = np.bincount(segments[segments != IGNORED], minlength=1)
    if counts.sum() < _KNOWN * segments.size:
        return False
    return counts.max() <= _MIXED * counts.sum() or random.random() < _PLAIN


def main() -> None:
    """Draw a sheet of 8 x 4 crops."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sheet", type=Path)
    sheet_path = parser.parse_args().sheet
    columns, rows, size = 8, 4, 96
    crops, maps = draw_crops(columns * rows, size, seed=0)
    colours = torch.zeros(256, 3)
    colours[: len(COLOURS)] = torch.tensor(COLOURS, dtype=torch.float32)
    over = 0.5 * crops.permute(0, 2, 3, 1) + 0.5 * colours[maps.long()]
    pairs = torch.cat([crops.permute(0, 2, 3, 1).float(), over], 1)  # [N, 2S, S, 3]
    sheet = pairs.reshape(rows, columns, 2 * size, size, 3).permute(0, 2, 1, 3, 4)
    Image.fromarray(sheet.reshape(rows * 2 * size, columns * size, 3).byte().numpy()).save(sheet_path)


if __name__ == "__main__":
    main()
