"""Photos that matplotlib, scikit-learn and scikit-image ship, with segments drawn by hand.

The polygons are in studies/photos/segments.json.

`python studies/photo_segments.py DIR` draws the segments over the photos.
"""

import json
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

IGNORED = 255
_COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0))


@dataclass(frozen=True)
class SegmentedPhoto:
    """A photo and the segment of every pixel, `[H, W]`, 255 where a person would not say."""

    name: str
    split: str
    path: Path
    labels: NDArray[np.uint8]


def segmented_photos(split: str) -> list[SegmentedPhoto]:
    """Return the photos of a split, `choice` or `blind`."""
    listed = json.loads((Path(__file__).parent / "photos" / "segments.json").read_text())["photos"]
    return [_photo(name, entry) for name, entry in listed.items() if entry["split"] == split]


def _photo(name: str, entry: dict) -> SegmentedPhoto:
    spec = find_spec(entry["package"])
    if spec is None or spec.origin is None:
        raise SystemExit(f"the photo {name} comes with {entry['package']}, which is not installed")
    path = Path(spec.origin).parent / entry["path"]
    numbers = {segment: number for number, segment in enumerate(entry["segments"])} | {None: IGNORED}
    with Image.open(path) as photo:
        labels = Image.new("L", photo.size, numbers[entry["rest"]])
    for polygon in entry["polygons"]:
        ImageDraw.Draw(labels).polygon([tuple(p) for p in polygon["points"]], fill=numbers[polygon["segment"]])
    return SegmentedPhoto(name, entry["split"], path, np.array(labels))


def main() -> None:
    """Draw all of them."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for photo in (*segmented_photos("choice"), *segmented_photos("blind")):
        with Image.open(photo.path) as image:
            pixels = np.asarray(image.convert("RGB"))
        colours = np.zeros((256, 3), np.uint8)
        colours[: len(_COLOURS)] = _COLOURS
        mixed = (0.5 * pixels + 0.5 * colours[photo.labels]).astype(np.uint8)
        Image.fromarray(mixed).save(folder / f"{photo.name}.png")


if __name__ == "__main__":
    main()
