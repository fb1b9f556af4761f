"""Where the regions of a mosaic lie: which pixel belongs to which region, before anything has a colour."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drconv.training.plane import SIDE, Array, Plane, noise

__all__ = ["Layout", "draw_layout"]

_LEAST_SHARE = 0.025
"""No region is smaller, share of the image: smaller ones vanish at the resolutions of a network's last layers."""


@dataclass(frozen=True, eq=False)
class Layout:
    """A partition of the canvas.

    Attributes:
        region_map: region of every pixel, `[S, S]`, numbers 0 to K - 1; higher ones lie in front of lower ones.
        num_regions: K.
        first_object: regions from this number on are objects, those below are ground; 0 where all are alike.
    """

    region_map: NDArray[np.uint8]
    num_regions: int
    first_object: int


def draw_layout(rng: np.random.Generator, plane: Plane) -> Layout:
    """Draw a partition into two to five regions: warped Voronoi cells, objects on a ground, or before a horizon.

    Objects may hide parts of each other. No region is smaller than 2.5 % of the image.
    """
    # Drawn again until no region is too small, which more than nine of ten draws are at once.
    while True:
        layout = (_cells, _ground, _horizon)[rng.choice(3, p=(0.35, 0.4, 0.25))](rng, plane)
        shares = np.bincount(layout.region_map.ravel(), minlength=layout.num_regions) / plane.size**2
        if shares.min() >= _LEAST_SHARE:
            return layout


def _bent(rng: np.random.Generator, plane: Plane) -> tuple[Array, Array]:
    """Return coordinates that are bent a little, so that straight lines become hand-drawn ones."""
    gain = np.exp(-((plane.frequency / np.float32(0.035)) ** 2))
    reach = np.float32(rng.uniform(0, 4))
    return plane.x + reach * noise(rng, plane, gain), plane.y + reach * noise(rng, plane, gain)


def _cells(rng: np.random.Generator, plane: Plane) -> Layout:
    count = int(rng.integers(2, 6))
    x, y = _bent(rng, plane)
    away = np.empty((count, plane.size, plane.size), np.float32)
    for number, (px, py) in enumerate(rng.uniform(-SIDE / 2, SIDE / 2, (count, 2)).astype(np.float32)):
        away[number] = (x - px) ** 2 + (y - py) ** 2
    return Layout(away.argmin(0).astype(np.uint8), count, 0)


def _ground(rng: np.random.Generator, plane: Plane) -> Layout:
    region_map = np.zeros((plane.size, plane.size), np.uint8)
    return _with_objects(rng, plane, region_map, 1, int(rng.integers(1, 4)))


def _horizon(rng: np.random.Generator, plane: Plane) -> Layout:
    height, slope = rng.normal((0.0, 0.0), (8.0, 0.12))
    hills = noise(rng, plane, np.exp(-((plane.frequency / np.float32(0.04)) ** 2)))[0]
    line = np.float32(height) + np.float32(slope) * plane.x[0] + np.float32(rng.uniform(0, 4)) * hills
    region_map = (plane.y > line).astype(np.uint8)
    return _with_objects(rng, plane, region_map, 2, int(rng.integers(1, 3)))


def _with_objects(
    rng: np.random.Generator, plane: Plane, region_map: NDArray[np.uint8], first: int, count: int
) -> Layout:
    for number in range(first, first + count):
        region_map[_inside(rng, plane)] = number
    return Layout(region_map, first + count, first)


def _inside(rng: np.random.Generator, plane: Plane) -> NDArray[np.bool_]:
    """Return the pixels of one object: a rounded or angular shape, a polygon, a blob or a bar."""
    cx, cy, angle, stretch = rng.uniform((-22, -22, 0, 0.6), (22, 22, 2 * np.pi, 1.0)).astype(np.float32)
    radius = np.float32(rng.uniform(9, 20))
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = (plane.x - cx) / radius, (plane.y - cy) / radius
    u, v = cos * x + sin * y, (cos * y - sin * x) / stretch
    match rng.integers(4):
        case 0:  # from a diamond over an ellipse to nearly a rectangle
            power = np.float32(rng.choice((1.0, 2.0, 2.0, 6.0)))
            return np.abs(u) ** power + np.abs(v) ** power < 1
        case 1:
            corners = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
            sides = [np.float32(np.cos(a)) * u + np.float32(np.sin(a)) * v for a in corners]
            # Where the corners leave a wide gap, the circle closes the shape.
            return np.asarray((np.max(sides, axis=0) < np.float32(0.7)) & (u * u + v * v < np.float32(1.6)))
        case 2:
            around = np.arctan2(v, u)
            edge = np.ones_like(around)
            for waves in range(2, 6):
                size, phase = rng.uniform((0, 0), (0.5 / waves, 2 * np.pi)).astype(np.float32)
                edge += size * np.sin(np.float32(waves) * around + phase)
            return u * u + v * v < edge * edge
        case _:
            long, wide = rng.uniform((1.0, 0.25), (2.2, 0.5)).astype(np.float32)
            return (np.abs(u) < long) & (np.abs(v) < wide)
