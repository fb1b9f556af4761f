"""The canvas of a mosaic: coordinates, noise with a given spectrum, and the nearest of scattered points."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2

__all__ = ["SIDE", "Array", "Plane", "nearest", "noise", "plane_of", "turned"]

Array = NDArray[np.float32]

SIDE = 64.0
"""Length of a canvas, units. Textures are drawn in units, so that more pixels show the same picture more finely."""


@dataclass(frozen=True, eq=False)
class Plane:
    """A square canvas.

    Attributes:
        size: pixels of a side, S.
        x, y: position of every pixel's middle, units from the centre, `[S, S]`.
        fx, fy: frequencies of a real Fourier transform, cycles per unit, `[1, S // 2 + 1]` and `[S, 1]`.
        frequency: their length, `[S, S // 2 + 1]`.
    """

    size: int
    x: Array
    y: Array
    fx: Array
    fy: Array
    frequency: Array

    @property
    def pixels(self) -> float:
        """Pixels per unit."""
        return self.size / SIDE


@cache
def plane_of(size: int) -> Plane:
    """Return the canvas of a number of pixels; nobody may write into it."""
    axis = ((np.arange(size) + 0.5) / size - 0.5) * SIDE
    y, x = (np.ascontiguousarray(part, dtype=np.float32) for part in np.meshgrid(axis, axis, indexing="ij"))
    step = SIDE / size
    fx = np.fft.rfftfreq(size, step).astype(np.float32)[None]
    fy = np.fft.fftfreq(size, step).astype(np.float32)[:, None]
    plane = Plane(size, x, y, fx, fy, np.hypot(fx, fy))
    for array in (plane.x, plane.y, plane.fx, plane.fy, plane.frequency):
        array.setflags(write=False)
    return plane


def turned(rng: np.random.Generator, plane: Plane) -> tuple[Array, Array]:
    """Return the coordinates of a canvas turned and shifted at random, units, `[S, S]` each."""
    angle, right, down = rng.uniform((0.0, 0.0, 0.0), (2 * np.pi, SIDE, SIDE))
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * plane.x + sin * plane.y + np.float32(right), cos * plane.y - sin * plane.x + np.float32(down)


def noise(rng: np.random.Generator, plane: Plane, gain: Array) -> Array:
    """Return Gaussian noise with a spectrum, of mean 0 and deviation 1, `[S, S]`; its edges fit together.

    Args:
        rng: source of the phases.
        plane: the canvas.
        gain: amplitude of every frequency, `[S, S // 2 + 1]`; that of the mean is ignored.
    """
    waves = rng.standard_normal((plane.size, plane.size // 2 + 1, 2), dtype=np.float32).view(np.complex64)[..., 0]
    waves *= gain
    waves[0, 0] = 0
    field: Array = irfft2(waves, s=(plane.size, plane.size))
    return field / max(float(field.std()), 1e-20)


_BITS = 6  # of a point's number, below its distance in one integer


def nearest(rng: np.random.Generator, plane: Plane, distance: float) -> tuple[NDArray[np.int32], Array, Array]:
    """Scatter points evenly over the canvas, and find for every pixel the two nearest.

    Args:
        rng: source of the points.
        plane: the canvas.
        distance: between neighbouring points, units; at least 9.5, which is when their numbers fit into 6 bits.

    Returns:
        Number of the nearest point, 0 to 63, and the distances to the nearest and the second, units; `[S, S]` each.
    """
    side = int(np.ceil(SIDE / distance))
    cells = (np.arange(side) + 0.5) / side - 0.5
    jitter = rng.uniform(-0.42, 0.42, (2, side, side)) / side
    px = ((cells[None] + jitter[0]) * SIDE * 1.05).astype(np.float32).ravel()
    py = ((cells[:, None] + jitter[1]) * SIDE * 1.05).astype(np.float32).ravel()
    across = (plane.x[:1] - px[:, None]) ** 2  # [N, S]
    down = (plane.y[:, 0] - py[:, None]) ** 2  # [N, S]
    # One minimum over integers finds distance and number at once, several times faster than argmin over floats.
    fine = np.float32(2**24 / (4 * SIDE * SIDE))
    key = ((down[:, :, None] + across[:, None, :]) * fine).astype(np.int32)
    key <<= _BITS
    key |= np.arange(side * side, dtype=np.int32)[:, None, None]
    first = key.min(0)
    key[key == first] = np.iinfo(np.int32).max
    second = key.min(0)
    numbers = first & (2**_BITS - 1)
    one, two = (np.sqrt((packed >> _BITS).astype(np.float32) / fine) for packed in (first, second))
    return numbers, one, two
