from collections import Counter
from importlib.util import find_spec
from itertools import islice
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from drconv.errors import ArgumentError, DrconvError, UnknownNameError
from drconv.training.mosaic import PHOTO_CLASS, SPLITS, MosaicDataset
from drconv.training.plane import plane_of
from drconv.training.randomness import Stream, item_generator
from drconv.training.textures import FAMILIES, UNSEEN_FAMILIES
from drconv.viz.tensor_pixels import pixels_of

ALL_FAMILIES = {**FAMILIES, **UNSEEN_FAMILIES}
needs_photos = pytest.mark.skipif(find_spec("skimage") is None, reason="scikit-image is not installed")


def sums(threads: int) -> list[float]:
    torch.set_num_threads(threads)
    dataset = MosaicDataset(6, 32, seed=3)
    return [float(sample.image.double().sum() + sample.region_map.sum()) for sample in dataset]


def test_an_item_is_the_same_in_another_process_and_with_other_threads() -> None:
    before = torch.get_num_threads()
    with get_context("spawn").Pool(1) as pool:
        elsewhere = pool.apply(sums, (2,))
    assert sums(1) == elsewhere
    torch.set_num_threads(before)


def test_an_item_neither_reads_nor_moves_global_randomness() -> None:
    dataset = MosaicDataset(3, 32, seed=3)
    torch.manual_seed(1)
    np.random.seed(1)
    first = [dataset[i] for i in (2, 0, 1)][1]
    drawn = torch.rand(()), np.random.random()
    torch.manual_seed(1)
    np.random.seed(1)
    assert drawn == (torch.rand(()), np.random.random())
    torch.testing.assert_close(dataset[0].image, first.image, rtol=0, atol=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_follow_the_epoch_and_change_nothing(workers: int) -> None:
    dataset = MosaicDataset(8, 16, seed=5)
    loader = DataLoader(dataset, batch_size=4, num_workers=workers, persistent_workers=workers > 0)
    for epoch in (0, 3):
        dataset.set_epoch(epoch)
        batches = list(loader)
        expected = MosaicDataset(8, 16, seed=5)
        expected.set_epoch(epoch)
        assert torch.equal(torch.cat([batch.image for batch in batches]), torch.stack([s.image for s in expected]))
        assert torch.equal(torch.cat([batch.label for batch in batches]), torch.tensor([s.label for s in expected]))


def test_only_the_training_split_changes_with_the_epoch() -> None:
    for split in ("train", "validation", "unseen"):
        dataset = MosaicDataset(2, 32, seed=0, split=split)
        before = dataset[1].image
        dataset.set_epoch(1)
        assert torch.equal(before, dataset[1].image) == (split != "train"), split


def test_splits_seeds_and_items_share_no_random_numbers() -> None:
    keys = [
        (stream, seed, epoch, index) for stream in Stream for seed in (0, 1) for epoch in (0, 1) for index in (0, 1)
    ]
    draws = {float(item_generator(*key).random()) for key in keys}
    assert len(draws) == len(keys)
    assert len(set(SPLITS.values())) == len(SPLITS)
    assert not set(FAMILIES) & set(UNSEEN_FAMILIES)


def test_the_map_has_two_to_five_regions_without_gaps_and_none_is_tiny() -> None:
    dataset = MosaicDataset(60, 32, seed=2)
    counts = Counter()
    for index in range(60):
        mosaic, sample = dataset.mosaic(index), dataset[index]
        shares = sample.region_map.flatten().bincount(minlength=len(mosaic.families)) / 32**2
        assert shares.min() >= 0.025
        assert sample.region_map.max() + 1 == len(mosaic.families) == len(set(mosaic.families))
        assert sample.region_map.shape == (32, 32)
        assert sample.region_map.dtype == torch.int64
        assert sample.image.dtype == torch.float32
        assert dataset.class_names[sample.label] == mosaic.label in mosaic.families
        counts[len(mosaic.families)] += 1
    assert set(counts) == {2, 3, 4, 5}


def test_the_label_is_the_texture_of_the_largest_region() -> None:
    """Ground or object: what most of the image shows decides."""
    dataset = MosaicDataset(80, 32, seed=4)
    regions = set()
    for index in range(80):
        mosaic = dataset.mosaic(index)
        largest = int(np.bincount(mosaic.region_map.ravel()).argmax())
        assert mosaic.label == mosaic.families[largest]
        regions.add(largest)
    assert len(regions) > 2


def test_an_image_shows_the_pattern_of_its_map() -> None:
    """Across a border of the map, pixels differ more than inside regions."""
    inside, across = [], []
    for index in range(40):
        mosaic = MosaicDataset(40, 64, seed=9, families=("flat", "ramp", "cloud", "sine", "waves")).mosaic(index)
        step = np.abs(np.diff(mosaic.levels, axis=1)).mean(-1)
        border = np.diff(mosaic.region_map.astype(int), axis=1) != 0
        inside.append(step[~border].mean())
        across.append(step[border].mean())
    assert np.mean(across) > 1.5 * np.mean(inside)


@pytest.mark.parametrize("name", ALL_FAMILIES)
def test_every_family_is_finite_in_range_and_varied(name: str) -> None:
    patterns = [
        ALL_FAMILIES[name](np.random.default_rng(seed), plane_of(size)) for seed in range(3) for size in (17, 64)
    ]
    for pattern in patterns:
        assert pattern.dtype == np.float32
        assert np.isfinite(pattern).all()
        assert pattern.min() >= 0
        assert pattern.max() <= 1
        assert (pattern.std() > 0.05) == (name != "flat")
    if name != "flat":
        assert np.abs(patterns[1] - patterns[3]).mean() > 0.02


def test_more_pixels_show_the_same_lengths() -> None:
    """Textures are drawn in units of the canvas: bars of a seed are as many at 32 pixels as at 128."""
    for name in ("bars", "dots", "wall", "cells"):
        small, large = (ALL_FAMILIES[name](np.random.default_rng(1), plane_of(size)) for size in (32, 128))
        means = large.reshape(32, 4, 32, 4).mean((1, 3))
        assert np.corrcoef(small.ravel(), means.ravel())[0, 1] > 0.85, name


def test_half_of_the_images_share_a_base_color() -> None:
    """Their regions have nearly equal mean colours before light falls on them."""
    dataset = MosaicDataset(200, 16, seed=6)
    spreads = []
    for index in range(200):
        mosaic = dataset.mosaic(index)
        means = [mosaic.levels[mosaic.region_map == region].mean(0) for region in range(len(mosaic.families))]
        spreads.append(np.std(means, axis=0).max())
    assert 0.3 < np.mean(np.array(spreads) < 0.09) < 0.7


def test_golden() -> None:
    """What a seed makes must not change: weights and studies name seeds. Tolerant of other CPUs, not of other draws."""
    dataset = MosaicDataset(10, 64, seed=0)
    for index, (families, label, shares, mean) in enumerate(GOLDEN):
        mosaic = dataset.mosaic(index)
        assert " ".join(mosaic.families) == families
        assert mosaic.label == label
        assert np.bincount(mosaic.region_map.ravel()) / 64**2 == pytest.approx(shares, abs=0.005)
        assert mosaic.levels.mean((0, 1)) == pytest.approx(mean, abs=2e-3)


GOLDEN: tuple[tuple[str, str, tuple[float, ...], tuple[float, float, float]], ...] = (
    ("cloud ridges scales", "cloud", (0.756, 0.148, 0.096), (0.2596, 0.3746, 0.2937)),
    ("ramp grid plaid terraces grain", "plaid", (0.197, 0.052, 0.306, 0.293, 0.152), (0.4032, 0.4843, 0.4627)),
    ("labyrinth sine grid", "labyrinth", (0.523, 0.256, 0.221), (0.6698, 0.6467, 0.3486)),
    ("flat terraces straw patches", "straw", (0.206, 0.157, 0.326, 0.311), (0.6794, 0.6339, 0.4513)),
    ("dots weave check", "dots", (0.892, 0.036, 0.073), (0.2692, 0.5859, 0.4129)),
    ("terraces pebbles", "terraces", (0.938, 0.062), (0.5807, 0.4051, 0.1432)),
)


def test_the_image_is_normalised_as_everywhere_else() -> None:
    dataset = MosaicDataset(1, 32, seed=0)
    pixels, _ = pixels_of(dataset[0].image)
    assert np.abs(pixels / 255 - dataset.mosaic(0).levels).max() < 0.003


@needs_photos
def test_photos_have_their_class_and_keep_to_their_parts() -> None:
    from drconv.training.photos import HELD_OUT_PHOTOS, TRAINING_PHOTOS, detailed, photo_textures

    assert not set(TRAINING_PHOTOS) & set(HELD_OUT_PHOTOS)
    train, test = photo_textures(training=True), photo_textures(training=False)
    for left, right in ((t, u) for t in train for u in test if t.name == u.name):
        assert not np.shares_memory(left.pixels[:, -1:], right.pixels[:, :1])
        assert left.pixels.shape[1] > 2 * right.pixels.shape[1]
        for texture in (left, right):
            top, first, side = texture.windows.T
            assert (top + side).max() <= texture.pixels.shape[0]
            assert (first + side).max() <= texture.pixels.shape[1]
    assert {texture.name for texture in train} <= set(TRAINING_PHOTOS)
    assert {texture.name for texture in test} >= {texture.name for texture in detailed(test)}
    mixed = MosaicDataset(60, 32, seed=1, photos=True)
    assert mixed.class_names == (*FAMILIES, PHOTO_CLASS)
    seen = {family for index in range(60) for family in mixed.mosaic(index).families}
    assert PHOTO_CLASS in seen
    assert len(seen) > 10
    alone = MosaicDataset(10, 32, seed=1, split="photos")
    assert alone.class_names == (PHOTO_CLASS,)
    assert {family for index in range(10) for family in alone.mosaic(index).families} == {PHOTO_CLASS}


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"size": 0}, ArgumentError, "size must be"),
        ({"image_size": 8}, ArgumentError, "at least 16 pixels"),
        ({"seed": -1}, ArgumentError, "seed must be"),
        ({"split": "test"}, ArgumentError, "split must be one of 'train'"),
        ({"families": ("bars", "dots")}, ArgumentError, "at least five families"),
        ({"families": ("bars", "dots", "brs", "sine", "ramp")}, UnknownNameError, "did you mean bars"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], kind: type[DrconvError], words: str) -> None:
    with pytest.raises(kind, match=words):
        MosaicDataset(**{"size": 4, "image_size": 32, "seed": 0, **arguments})  # type: ignore[arg-type]


def test_items_end_where_the_sequence_ends() -> None:
    dataset = MosaicDataset(2, 16, seed=0)
    assert len(list(islice(dataset, 5))) == 2
    with pytest.raises(IndexError):
        dataset[-1]
    with pytest.raises(ArgumentError, match="epoch"):
        dataset.set_epoch(-1)
