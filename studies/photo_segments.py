"""Photos that other packages ship, with segments drawn by hand.

The polygons are in studies/photos/segments.json. Some photos come with installed packages (matplotlib, scikit-learn,
scikit-image); `python studies/photos/fetch.py` fetches the others.

`python studies/photo_segments.py DIR` draws the segments over the photos.
"""

import argparse
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

IGNORED = 255
SPLITS = ("training", "choice", "blind")
"""What photos are for: training, the choice of how to train, and one look at the end."""

_PHOTOS = Path(__file__).parent / "photos"
_DISTRIBUTIONS = {"matplotlib": "matplotlib", "skimage": "scikit-image", "sklearn": "scikit-learn"}
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0))


@dataclass(frozen=True)
class SegmentedPhoto:
    """A photo and the segment of every pixel, `[H, W]`, 255 where a person would not say."""

    name: str
    split: str
    path: Path
    labels: NDArray[np.uint8]


def segmented_photos(split: str) -> list[SegmentedPhoto]:
    """Return the photos of a split, one of `SPLITS`."""
    return [_photo(name, entry) for name, entry in _listed().items() if entry["split"] == split]


def segmented_photo(name: str) -> SegmentedPhoto:
    """Return one photo, which alone needs to be there."""
    return _photo(name, _listed()[name])


def _listed() -> dict[str, dict]:
    return json.loads((_PHOTOS / "segments.json").read_text())["photos"]


def _path(name: str, entry: dict) -> Path:
    if "archive" in entry:
        path = _PHOTOS / "files" / Path(entry["path"]).name
        remedy = "python studies/photos/fetch.py"
    else:
        spec = find_spec(entry["package"])
        path = Path(spec.origin).parent / entry["path"] if spec and spec.origin else None
        remedy = f"pip install {_DISTRIBUTIONS[entry['package']]}"
    if path is None or not path.is_file():
        raise SystemExit(f"the photo {name} is not there; run: {remedy}")
    return path


def _photo(name: str, entry: dict) -> SegmentedPhoto:
    path = _path(name, entry)
    numbers = {segment: number for number, segment in enumerate(entry["segments"])} | {None: IGNORED}
    labels = Image.new("L", upright(path).size, numbers[entry["rest"]])
    for polygon in entry["polygons"]:
        ImageDraw.Draw(labels).polygon([tuple(p) for p in polygon["points"]], fill=numbers[polygon["segment"]])
    return SegmentedPhoto(name, entry["split"], path, np.array(labels))


def upright(path: Path) -> Image.Image:
    """Return a photo as a person sees it, RGB."""
    with Image.open(path) as photo:
        return ImageOps.exif_transpose(photo).convert("RGB")


def main() -> None:
    """Draw all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for photo in [photo for split in SPLITS for photo in segmented_photos(split)]:
        pixels = np.asarray(upright(photo.path))
        colours = np.zeros((256, 3), np.uint8)
        colours[: len(COLOURS)] = COLOURS
        mixed = (0.5 * pixels + 0.5 * colours[photo.labels]).astype(np.uint8)
        Image.fromarray(mixed).save(folder / f"{photo.name}.png")


if __name__ == "__main__":
    main()
