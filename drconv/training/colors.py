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
    bases = np.repeat(_base(rng, 0.45, 0.7)[None], count, axis=0) if shared else _apart(rng, count)
    # Mostly lighter and darker, as materials are, with some colour of its own.
    directions = rng.choice((-1.0, 1.0), (count, 1)) + rng.normal(0, 0.35, (count, 3))
    least, most = (0.35, 0.75) if shared else (0.15, 0.75)
    contrasts = directions * rng.uniform(least, most, (count, 1))
    return bases.astype(np.float32), contrasts.astype(np.float32)


def _base(rng: np.random.Generator, darkest: float = 0.3, brightest: float = 0.8) -> Array:
    hue, value = rng.uniform((0, darkest), (6, brightest))
    saturation = rng.beta(1.3, 1.6)
    # The usual formula from hue, saturation and value to red, green and blue.
    ramps = np.clip(np.abs((hue + np.array((0, 4, 2))) % 6 - 3) - 1, 0, 1)
    return np.asarray(value * (1 - saturation + saturation * ramps), np.float32)


def _apart(rng: np.random.Generator, count: int) -> Array:
    """Draw colours of which each is the one of four candidates that is farthest from those before it."""
    chosen = [_base(rng)]
    while len(chosen) < count:
        candidates = [_base(rng) for _ in range(4)]
        distances = [min(float(np.abs(one - other).sum()) for other in chosen) for one in candidates]
        chosen.append(candidates[int(np.argmax(distances))])
    return np.stack(chosen)
