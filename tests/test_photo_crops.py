"""Photos of the demo weights: turned as their files say, with crops whose pixels and segments belong together."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

STUDIES = Path(__file__).parents[1] / "studies"


@pytest.fixture
def crops_of_a_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make the only training photo: three flat colours, by column, the last 8 % of which belong to no segment."""
    monkeypatch.syspath_prepend(str(STUDIES))
    for name in ("photo_crops", "photo_segments"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import photo_crops
    from photo_segments import IGNORED, SegmentedPhoto

    labels = np.zeros((150, 250), np.uint8)
    labels[:, 120:], labels[:, 230:] = 1, IGNORED
    pixels = np.where(labels[..., None] == 0, (200, 0, 0), np.where(labels[..., None] == 1, (0, 200, 0), (0, 0, 200)))
    path = tmp_path / "photo.png"
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    made = SegmentedPhoto("photo", "training", path, labels)
    monkeypatch.setattr(photo_crops, "segmented_photos", lambda split: [made] if split == "training" else [])
    return photo_crops


def test_pixels_keep_their_segments(crops_of_a_photo) -> None:
    crops, maps = crops_of_a_photo.draw_crops(40, 64, seed=0)
    assert (crops.shape, crops.dtype) == ((40, 3, 64, 64), torch.uint8)
    strongest = crops.argmax(1)  # the colour, but where two meet
    expected = torch.where(maps == 255, 2, maps.long())
    assert (strongest == expected).float().mean() > 0.98
    assert set(maps.unique().tolist()) == {0, 1, 255}


def test_crops_differ_in_scale_and_mostly_show_two_segments(crops_of_a_photo) -> None:
    _, maps = crops_of_a_photo.draw_crops(60, 64, seed=0)
    largest = torch.stack([(maps == segment).flatten(1).float().mean(1) for segment in (0, 1)]).amax(0)
    assert (largest <= 0.93).float().mean() > 0.8
    assert ((maps != 255).flatten(1).float().mean(1) >= 0.6).all()


def test_a_seed_is_a_seed(crops_of_a_photo) -> None:
    first, again, other = (crops_of_a_photo.draw_crops(4, 32, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_a_turned_photo_is_upright(tmp_path: Path, crops_of_a_photo) -> None:
    levels = np.zeros((20, 30, 3), np.uint8)
    levels[:, :10] = 255  # its left is above once it is turned
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(levels).save(tmp_path / "turned.png", exif=exif)
    found = np.asarray(crops_of_a_photo.upright(tmp_path / "turned.png"))
    assert found.shape == (30, 20, 3)
    assert (found[:10] == 255).all()
    assert (found[10:] == 0).all()
