"""Colours for the regions of a mosaic: a base and a contrast each, or one base that all of them share."""

import numpy as np

from drconv.training.plane import Array

__all__ = ["draw_colors"]


def draw_colors(rng: np.random.Generator, count: int, *, shared: bool) -> tuple[Array, Array]:
    """Draw the colours of textures.

    Args:
        rng: source of randomness.
        count: K, number of textures.
        shared: whether all have the same base; then only their patterns tell them apart, and these are strong.

    Returns:
        Base colours, RGB 0 to 1, `[K, 3]`; and what a pattern adds from its least to its greatest value, `[K, 3]`.
    """
    # A shared base is neither dark nor bright, so that both ends of every pattern show.
    bases = np.repeat(_bases(rng, 1, 0.45, 0.7), count, axis=0) if shared else _apart(_bases(rng, 4 * count, 0.3, 0.8))
    # Mostly lighter and darker, as materials are, with some colour of its own.
    directions = rng.choice((-1.0, 1.0), (count, 1)) + rng.normal(0, 0.35, (count, 3))
    least, most = (0.35, 0.75) if shared else (0.15, 0.75)
    contrasts = directions * rng.uniform(least, most, (count, 1))
    return bases.astype(np.float32), contrasts.astype(np.float32)


def _bases(rng: np.random.Generator, count: int, darkest: float, brightest: float) -> Array:
    """Draw colours of any hue, more often dull than vivid, `[count, 3]`."""
    hue, value = rng.uniform((0, darkest), (6, brightest), (count, 2)).T[..., None]
    saturation = rng.beta(1.3, 1.6, (count, 1))
    # The usual formula from hue, saturation and value to red, green and blue.
    ramps = np.clip(np.abs((hue + np.array((0, 4, 2))) % 6 - 3) - 1, 0, 1)
    return np.asarray(value * (1 - saturation + saturation * ramps), np.float32)


def _apart(candidates: Array) -> Array:
    """Choose a quarter of the candidates; each is the one of its four that is farthest from those before it."""
    fours = candidates.reshape(-1, 4, 3)
    chosen = fours[:, 0].copy()
    for number in range(1, len(fours)):
        distances = np.abs(fours[number][:, None] - chosen[None, :number]).sum(-1).min(1)  # [4]
        chosen[number] = fours[number][distances.argmax()]
    return chosen
