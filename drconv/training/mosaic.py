"""Mosaics: images composed of textured regions whose true map is known, made from a seed in endless variety."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from drconv.checks import flag, pick, positive
from drconv.errors import ArgumentError
from drconv.registry import unknown_name
from drconv.training.colors import draw_colors
from drconv.training.layouts import Layout, draw_layout
from drconv.training.photos import PhotoTexture, detailed, photo_textures, window_pixels
from drconv.training.plane import Array, Plane, plane_of
from drconv.training.randomness import Stream, checked_seed, item_generator
from drconv.training.sample import Sample, SampleDataset
from drconv.training.textures import FAMILIES, UNSEEN_FAMILIES, Texture
from drconv.viz.image import normalised

__all__ = ["PHOTO_CLASS", "SPLITS", "Mosaic", "MosaicDataset", "draw_mosaic"]

SPLITS = MappingProxyType(
    {
        "train": Stream.TRAIN,
        "validation": Stream.VALIDATION,
        "unseen": Stream.UNSEEN,
        "photos": Stream.PHOTOS,
    }
)
"""The parts of the data and their random numbers. Only `train` has new images in every epoch."""

PHOTO_CLASS = "photo"
"""The class of images whose largest region shows a photo."""

_LEAST_SIZE = 16
_SHARED_COLOR = 0.5  # share of images whose regions have one base colour; fewer of photos, which differ less
_SHARED_PHOTO = 0.25
_STRONGER = np.float32(1.4)
_ALL_PHOTO = 0.17  # share of images made of photos alone, and of photo textures among the others that share no colour
_SOME_PHOTO = 0.1


class Mosaic(NamedTuple):
    """One image before it is normalised.

    Attributes:
        levels: RGB 0 to 1, `[S, S, 3]`.
        region_map: true region of every pixel, `[S, S]`.
        families: name of every region's texture, by region.
        label: family of the largest region.
    """

    levels: Array
    region_map: NDArray[np.uint8]
    families: tuple[str, ...]
    label: str


class MosaicDataset(SampleDataset):
    """Images of textured regions, with the texture of the largest region as label and the true map beside.

    Args:
        size: number of images; of an epoch where the split is `train`.
        image_size: height and width, pixels, at least 16. All lengths grow with it.
        seed: whose images these are; every split has its own for the same seed.
        split: `train`, with new images in every epoch; `validation`, new instances of the same families and, with
            photos, of other parts of the same photos; `unseen`, families never trained on; `photos`, photo textures
            alone, from the parts kept from training.
        families: names of procedural families to use; None takes those of the split.
        photos: whether some textures are photos (needs scikit-image); always so for the split `photos`.

    Raises:
        ArgumentError: a size or the seed is not usable, or there are fewer than the five families of a full image.
        UnknownNameError: there is no such family.
        FileError: photos are asked for and scikit-image is not installed.

    Example:
        >>> sample = MosaicDataset(100, 64, seed=0)[0]
        >>> sample.image.shape, sample.region_map.shape
        (torch.Size([3, 64, 64]), torch.Size([64, 64]))
    """

    def __init__(
        self,
        size: int,
        image_size: int,
        seed: int,
        *,
        split: str = "train",
        families: tuple[str, ...] | None = None,
        photos: bool = False,
    ) -> None:
        self._stream = SPLITS[pick("split", split, tuple(SPLITS))]
        self._size = positive("size", size)
        self._only_photos = split == "photos"
        self._textures = _chosen(UNSEEN_FAMILIES if split == "unseen" else FAMILIES, families)
        self._seed = checked_seed(seed)
        self._plane = plane_of(_checked_size(image_size))
        self._photos: tuple[PhotoTexture, ...] = ()
        if flag("photos", photos) or self._only_photos:
            self._photos = photo_textures(training=split == "train")
        names = () if self._only_photos else tuple(self._textures)
        super().__init__(names + ((PHOTO_CLASS,) if self._photos else ()), has_region_maps=True)
        self._labels = {name: label for label, name in enumerate(self.class_names)}

    def __len__(self) -> int:
        """Return the number of images (of an epoch)."""
        return self._size

    def mosaic(self, index: int) -> Mosaic:
        """Return an image of the current epoch as it was drawn, with the families of its regions."""
        epoch = self.epoch if self._stream is Stream.TRAIN else 0
        rng = item_generator(self._stream, self._seed, epoch, index)
        return draw_mosaic(rng, self._plane, self._textures, self._photos, only_photos=self._only_photos)

    def _item(self, index: int) -> Sample:
        drawn = self.mosaic(index)
        image = normalised(torch.from_numpy(drawn.levels).permute(2, 0, 1)).contiguous()
        return Sample(image, self._labels[drawn.label], torch.from_numpy(drawn.region_map.astype(np.int64)))


def _checked_size(image_size: int) -> int:
    if positive("image_size", image_size) < _LEAST_SIZE:
        raise ArgumentError(f"image_size must be at least {_LEAST_SIZE} pixels for mosaics, got {image_size}")
    return image_size


def _chosen(table: Mapping[str, Texture], names: tuple[str, ...] | None) -> Mapping[str, Texture]:
    if names is None:
        return table
    everything = {**FAMILIES, **UNSEEN_FAMILIES}
    for name in names:
        if name not in everything:
            raise unknown_name("texture family", name, everything)
    if len(set(names)) < 5 or len(set(names)) < len(names):
        raise ArgumentError(f"a mosaic needs at least five families, each named once, got {', '.join(names) or 'none'}")
    return {name: everything[name] for name in names}


def draw_mosaic(
    rng: np.random.Generator,
    plane: Plane,
    textures: Mapping[str, Texture],
    photos: tuple[PhotoTexture, ...] = (),
    *,
    only_photos: bool = False,
) -> Mosaic:
    """Draw one image: a layout, a texture and colours for each region, then light, shadow, blur and noise.

    Args:
        rng: source of all its randomness.
        plane: the canvas, S pixels wide.
        textures: families to choose from, at least five.
        photos: photos to choose from; empty for none.
        only_photos: whether every texture is a photo.
    """
    layout = draw_layout(rng, plane)
    count = layout.num_regions
    all_photo = only_photos or (bool(photos) and rng.random() < _ALL_PHOTO)
    shared = bool(rng.random() < (_SHARED_PHOTO if all_photo else _SHARED_COLOR))
    if all_photo and shared:
        # Two smooth photos of one colour would look like one.
        textured = detailed(photos)
        shared = len(textured) >= count
        photos = textured if shared else photos
    is_photo = np.full(count, all_photo)
    if photos and not all_photo and not shared:
        is_photo = rng.random(count) < _SOME_PHOTO
    names = tuple(textures)
    picks = rng.choice(len(names), count, replace=False)
    families = tuple(PHOTO_CLASS if photo else names[pick] for photo, pick in zip(is_photo, picks, strict=True))
    bases, contrasts = draw_colors(rng, count, shared=shared)
    levels = _patterned(rng, plane, layout, [textures.get(name) for name in families], bases, contrasts)
    if photos and is_photo.any():
        # The same photo twice in an image would make two regions that nobody can tell apart.
        sources = rng.choice(len(photos), count, replace=count > len(photos))
        for region in np.flatnonzero(is_photo):
            inside = layout.region_map == region
            photo = photos[sources[region]]
            texture = window_pixels(rng, photo, plane.size)[inside]
            if shared:
                # Half the saturation, so that no channel is too dark for the texture to show, and more contrast.
                base = (bases[region] + bases[region].mean()) / 2
                texture = base + _STRONGER * (texture - texture.mean(0))
            elif photo.gray:
                # A tint of half the saturation, and the brightness of the base.
                tint = (bases[region] + bases[region].mean()) / 2
                texture *= tint / max(float(texture.mean()), 0.1)
            levels[inside] = texture
    levels = _finished(rng, plane, layout, levels)
    sizes = np.bincount(layout.region_map.ravel(), minlength=count)
    return Mosaic(levels, layout.region_map, families, families[int(sizes.argmax())])


def _patterned(
    rng: np.random.Generator,
    plane: Plane,
    layout: Layout,
    textures: list[Texture | None],
    bases: Array,
    contrasts: Array,
) -> Array:
    """Return every region with its pattern and colours, `[S, S, 3]`; a texture of None leaves the region flat."""
    pattern = np.zeros((plane.size, plane.size), np.float32)
    for region, texture in enumerate(textures):
        if texture is not None:
            np.copyto(pattern, texture(rng, plane), where=layout.region_map == region)
    flat_map = layout.region_map.ravel()
    # Around its mean, so that the base is the mean colour of the region.
    means = np.bincount(flat_map, weights=pattern.ravel()) / np.bincount(flat_map)
    pattern -= means.astype(np.float32).take(layout.region_map)
    levels: Array = contrasts.take(layout.region_map, 0)
    levels *= pattern[..., None]
    levels += bases.take(layout.region_map, 0)
    return levels


def _finished(rng: np.random.Generator, plane: Plane, layout: Layout, levels: Array) -> Array:
    """Return levels with light, cast shadows, blur and noise, 0 to 1."""
    slope, angle, shadow, soft, grainy = rng.uniform((0, 0, -0.5, 0, 0), (0.35, 2 * np.pi, 0.5, 0.25, 0.05))
    right, down = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    light = 1 + np.float32(slope / 32) * (right * plane.x + down * plane.y)
    if shadow > 0 and layout.first_object:
        light *= 1 - np.float32(shadow) * _shadow(layout, right, down, plane)
    levels *= light[..., None]
    if soft > 0.05:
        levels = _blurred(levels, np.float32(soft))
    levels += np.float32(grainy) * rng.standard_normal(levels.shape, dtype=np.float32)
    return np.clip(levels, 0, 1, out=levels)


def _shadow(layout: Layout, right: np.float32, down: np.float32, plane: Plane) -> Array:
    """Return where objects darken what lies behind them, away from the light, 0 to 1."""
    reach = 3 * plane.pixels
    moved = np.roll(layout.region_map, (round(-down * reach), round(-right * reach)), (0, 1))
    cast = ((moved > layout.region_map) & (moved >= layout.first_object)).astype(np.float32)
    return _blurred(_blurred(cast, np.float32(0.25)), np.float32(0.25)) * (moved > layout.region_map)


def _blurred(values: Array, weight: np.float32) -> Array:
    """Return values averaged with their neighbours along both axes, each neighbour with `weight`."""
    for axis in (0, 1):
        before = np.moveaxis(values, axis, 0)
        after = before * (1 - 2 * weight)
        after[1:] += weight * before[:-1]
        after[:-1] += weight * before[1:]
        # Beyond the border lies what lies on it.
        after[0] += weight * before[0]
        after[-1] += weight * before[-1]
        values = np.moveaxis(after, 0, axis)
    return values
