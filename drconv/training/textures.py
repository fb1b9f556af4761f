"""The procedural textures of mosaics: a family is a function from random numbers to a pattern of values 0 to 1.

Lengths are units of a canvas that is 64 units wide. Families that nobody may train on are a table of their own.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from drconv.training.plane import SIDE, Array, Plane, nearest, noise, turned

__all__ = ["FAMILIES", "UNSEEN_FAMILIES", "Texture"]

Texture = Callable[[np.random.Generator, Plane], Array]

_TURN = np.float32(2 * np.pi)


def _length(rng: np.random.Generator, least: float, most: float) -> float:
    """Draw a length, every ratio as likely as any other."""
    return float(least * (most / least) ** rng.random())


def _step(plane: Plane, height: Array, slope: float) -> Array:
    """Return 1 where `height` is above 0, with an edge of a pixel; `slope` is that of `height` there, per unit."""
    return np.clip(height * np.float32(plane.pixels / slope) + np.float32(0.5), 0, 1)


def _wrapped(values: Array) -> Array:
    """Return values modulo 1, -0.5 to 0.5."""
    return values - np.rint(values)


def _unit(field: Array, reach: float = 2.2) -> Array:
    """Map noise of deviation 1 to 0 to 1, clipping what is more than `reach` away."""
    return np.clip(field * np.float32(0.5 / reach) + np.float32(0.5), 0, 1)


def _band(plane: Plane, frequency: float, width: float) -> Array:
    """Return the spectrum of noise around one frequency, cycles per unit; `width` is a share of it."""
    return np.exp(-(((plane.frequency - np.float32(frequency)) / np.float32(frequency * width)) ** 2))


def _low(plane: Plane, frequency: float) -> Array:
    return np.exp(-((plane.frequency / np.float32(frequency)) ** 2))


def _streaks(rng: np.random.Generator, plane: Plane) -> Array:
    """Return noise stretched in one direction, of deviation 1."""
    angle = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    across, along = cos * plane.fx + sin * plane.fy, cos * plane.fy - sin * plane.fx
    fine = _length(rng, 0.12, 0.4)
    stretch = _length(rng, 6, 14)
    return noise(rng, plane, np.exp(-((across / np.float32(fine)) ** 2) - (along / np.float32(fine / stretch)) ** 2))


def _flat(rng: np.random.Generator, plane: Plane) -> Array:
    return np.full((plane.size, plane.size), 0.5, np.float32)


def _ramp(rng: np.random.Generator, plane: Plane) -> Array:
    u, _ = turned(rng, plane)
    low, high = u.min(), u.max()
    return (u - low) / (high - low)


def _sine(rng: np.random.Generator, plane: Plane) -> Array:
    u, _ = turned(rng, plane)
    return np.sin(u * np.float32(_TURN / _length(rng, 4, 14))) * np.float32(0.5) + np.float32(0.5)


def _bars(rng: np.random.Generator, plane: Plane) -> Array:
    u, _ = turned(rng, plane)
    period = _length(rng, 4, 16)
    width = rng.uniform(0.15, 0.35)
    return _step(plane, np.float32(width) - np.abs(_wrapped(u / np.float32(period))), 1 / period)


def _check(rng: np.random.Generator, plane: Plane) -> Array:
    u, v = turned(rng, plane)
    period = _length(rng, 6, 18)
    turn = np.float32(_TURN / period)
    return _step(plane, np.sin(u * turn) * np.sin(v * turn), 2 * np.pi / period)


def _dots(rng: np.random.Generator, plane: Plane) -> Array:
    u, v = turned(rng, plane)
    period = np.float32(_length(rng, 5, 14))
    row = np.rint(v / period)
    along = u / period + row * np.float32(rng.choice((0.0, 0.5)))  # rows in line or staggered
    away = np.hypot(_wrapped(along), v / period - row)
    return _step(plane, np.float32(rng.uniform(0.2, 0.38)) - away, 1 / float(period))


def _grid(rng: np.random.Generator, plane: Plane) -> Array:
    u, v = turned(rng, plane)
    period = np.float32(_length(rng, 5, 14))
    away = np.minimum(np.abs(_wrapped(u / period)), np.abs(_wrapped(v / period)))
    return _step(plane, np.float32(rng.uniform(0.08, 0.16)) - away, 1 / float(period))


def _grain(rng: np.random.Generator, plane: Plane) -> Array:
    return _unit(noise(rng, plane, _low(plane, _length(rng, 0.35, 0.8))))


def _speckle(rng: np.random.Generator, plane: Plane) -> Array:
    return _unit(noise(rng, plane, _band(plane, _length(rng, 0.09, 0.2), 0.4)))


def _cloud(rng: np.random.Generator, plane: Plane) -> Array:
    power = rng.uniform(1.5, 2.3)
    gain = np.maximum(plane.frequency, np.float32(1 / SIDE)) ** np.float32(-power)
    return _unit(noise(rng, plane, gain))


def _patches(rng: np.random.Generator, plane: Plane) -> Array:
    frequency = _length(rng, 0.06, 0.11)
    field = noise(rng, plane, _low(plane, frequency)) + np.float32(rng.uniform(-0.5, 0.5))
    return _step(plane, field, 4 * frequency)


def _fibre(rng: np.random.Generator, plane: Plane) -> Array:
    return _unit(_streaks(rng, plane))


def _cells(rng: np.random.Generator, plane: Plane) -> Array:
    numbers, _, _ = nearest(rng, plane, _length(rng, 9.5, 16))
    return rng.random(64, dtype=np.float32)[numbers]


def _wall(rng: np.random.Generator, plane: Plane) -> Array:
    u, v = turned(rng, plane)
    height = _length(rng, 5, 10)
    length = height * rng.uniform(1.7, 2.8)
    row = np.floor(v / np.float32(height))
    along = u / np.float32(length) + row * np.float32(0.5)
    brick = np.floor(along)
    joint = np.minimum((v / np.float32(height) - row) * np.float32(height), (along - brick) * np.float32(length))
    shades = rng.uniform(0.45, 1, 64).astype(np.float32)
    number = (row * 5 + brick * 3).astype(np.int32) & 63
    return shades[number] * _step(plane, joint - np.float32(height * rng.uniform(0.12, 0.22)), 1)


def _labyrinth(rng: np.random.Generator, plane: Plane) -> Array:
    frequency = _length(rng, 0.07, 0.14)
    return _step(plane, noise(rng, plane, _band(plane, frequency, 0.15)), 2 * np.pi * frequency)


def _veins(rng: np.random.Generator, plane: Plane) -> Array:
    u, _ = turned(rng, plane)
    bend = noise(rng, plane, np.maximum(plane.frequency, np.float32(1 / SIDE)) ** np.float32(-2))
    phase = u * np.float32(np.pi / _length(rng, 10, 20)) + bend * np.float32(rng.uniform(1, 2))
    return np.sqrt(np.abs(np.sin(phase)))


def _weave(rng: np.random.Generator, plane: Plane) -> Array:
    u, v = turned(rng, plane)
    period = np.float32(_length(rng, 4, 9))
    u, v = u / period, v / period
    over = ((np.floor(u) + np.floor(v)).astype(np.int32) & 1).astype(bool)
    across, along = np.abs(np.sin(np.float32(np.pi) * u)), np.abs(np.sin(np.float32(np.pi) * v))
    return np.where(over, across, np.float32(rng.uniform(0.35, 0.8)) * along)


def _scales(rng: np.random.Generator, plane: Plane) -> Array:
    u, v = turned(rng, plane)
    period = np.float32(_length(rng, 6, 14))
    down: Array = v * (2 / period)
    row: Array = np.floor(down)
    away = np.hypot(_wrapped(u / period + row * np.float32(0.5)), (down - row) * np.float32(0.5))
    return np.clip(away * np.float32(1 / 0.6), 0, 1) ** 2


def _crackle(rng: np.random.Generator, plane: Plane) -> Array:
    _, one, two = nearest(rng, plane, _length(rng, 9.5, 14))
    return _step(plane, two - one - np.float32(rng.uniform(1.2, 2.5)), 2)


def _pebbles(rng: np.random.Generator, plane: Plane) -> Array:
    distance = _length(rng, 9.5, 13)
    numbers, one, two = nearest(rng, plane, distance)
    dome = np.clip((two - one) * np.float32(2.2 / distance), 0, 1)
    return dome * rng.uniform(0.5, 1, 64).astype(np.float32)[numbers]


def _plaid(rng: np.random.Generator, plane: Plane) -> Array:
    u, v = turned(rng, plane)
    period = np.float32(_length(rng, 14, 28))
    stripes = rng.random(8, dtype=np.float32)
    threads = ((axis * (8 / period)).astype(np.int32) & 7 for axis in (u + 2 * SIDE, v + 2 * SIDE))
    warp, weft = (stripes[thread] for thread in threads)
    return (warp + weft) * np.float32(0.5)


def _waves(rng: np.random.Generator, plane: Plane) -> Array:
    u, v = turned(rng, plane)
    period = _length(rng, 5, 12)
    swing = np.sin(v * np.float32(_TURN / _length(rng, 14, 30))) * np.float32(period * rng.uniform(0.4, 0.9))
    return np.sin((u + swing) * np.float32(_TURN / period)) * np.float32(0.5) + np.float32(0.5)


def _straw(rng: np.random.Generator, plane: Plane) -> Array:
    # Three layers, of which the brightest stalk lies on top.
    stalks = np.maximum(_streaks(rng, plane), np.maximum(_streaks(rng, plane), _streaks(rng, plane)))
    return np.clip(stalks * np.float32(0.7) - np.float32(0.1), 0, 1)


def _spots(rng: np.random.Generator, plane: Plane) -> Array:
    frequency = _length(rng, 0.08, 0.16)
    field = noise(rng, plane, _band(plane, frequency, 0.3)) - np.float32(rng.uniform(0.7, 1.1))
    return _step(plane, field, 2 * np.pi * frequency)


def _ridges(rng: np.random.Generator, plane: Plane) -> Array:
    field = noise(rng, plane, _low(plane, _length(rng, 0.06, 0.12)))
    return np.clip(1 - np.abs(field) * np.float32(0.8), 0, 1) ** 2


def _terraces(rng: np.random.Generator, plane: Plane) -> Array:
    field = noise(rng, plane, _low(plane, _length(rng, 0.05, 0.08)))
    level = np.floor((field + 4) * np.float32(rng.uniform(1.8, 3)))
    return rng.permutation(np.linspace(0, 1, 6, dtype=np.float32))[level.astype(np.int32) % 6]


def _shards(rng: np.random.Generator, plane: Plane) -> Array:
    sides = np.zeros((plane.size, plane.size), np.int32)
    for bit in range(6):
        u, _ = turned(rng, plane)
        sides |= (u > np.float32(SIDE / 2)).astype(np.int32) << bit
    return rng.random(64, dtype=np.float32)[sides]


def _wood(rng: np.random.Generator, plane: Plane) -> Array:
    u, v = turned(rng, plane)
    away = np.hypot(u, v * np.float32(0.18)) + 2 * noise(rng, plane, _low(plane, 0.04))
    ring = away / np.float32(_length(rng, 4, 8))
    return ring - np.floor(ring)


def _rings(rng: np.random.Generator, plane: Plane) -> Array:
    u, v = turned(rng, plane)
    tile = np.float32(_length(rng, 14, 30))
    away = np.hypot(_wrapped(u / tile), _wrapped(v / tile)) * tile
    return np.cos(away * np.float32(_TURN / _length(rng, 3.5, 6))) * np.float32(0.5) + np.float32(0.5)


def _zigzag(rng: np.random.Generator, plane: Plane) -> Array:
    u, v = turned(rng, plane)
    period = _length(rng, 5, 10)
    swing = np.abs(_wrapped(v / np.float32(_length(rng, 10, 18)))) * np.float32(period * rng.uniform(1.5, 2.5))
    return _step(plane, np.sin((u + swing) * np.float32(_TURN / period)), 2 * np.pi / period)


def _honeycomb(rng: np.random.Generator, plane: Plane) -> Array:
    u, v = turned(rng, plane)
    period = np.float32(_length(rng, 6, 12))
    tall = np.float32(np.sqrt(3))
    u, v = u / period, v / period
    # Two staggered grids of rectangles; the nearer middle of either owns the pixel, which makes hexagons.
    first = _wrapped(u), _wrapped(v / tall) * tall
    second = _wrapped(u + np.float32(0.5)), _wrapped(v / tall + np.float32(0.5)) * tall
    nearer = first[0] ** 2 + first[1] ** 2 < second[0] ** 2 + second[1] ** 2
    across, along = (np.abs(np.where(nearer, one, two)) for one, two in zip(first, second, strict=True))
    edge = np.float32(0.5) - np.maximum(across, across * np.float32(0.5) + along * (tall / 2))
    return _step(plane, edge - np.float32(rng.uniform(0.05, 0.1)), 1 / float(period))


def _ripples(rng: np.random.Generator, plane: Plane) -> Array:
    turn = np.float32(_TURN / _length(rng, 5, 9))
    (ax, ay), (bx, by) = rng.uniform(-SIDE, SIDE, (2, 2)).astype(np.float32)
    one, two = np.hypot(plane.x - ax, plane.y - ay), np.hypot(plane.x - bx, plane.y - by)
    return (np.sin(one * turn) + np.sin(two * turn)) * np.float32(0.25) + np.float32(0.5)


FAMILIES: Mapping[str, Texture] = MappingProxyType(
    {
        "flat": _flat,
        "ramp": _ramp,
        "sine": _sine,
        "bars": _bars,
        "check": _check,
        "dots": _dots,
        "grid": _grid,
        "grain": _grain,
        "speckle": _speckle,
        "cloud": _cloud,
        "patches": _patches,
        "fibre": _fibre,
        "cells": _cells,
        "wall": _wall,
        "labyrinth": _labyrinth,
        "veins": _veins,
        "weave": _weave,
        "scales": _scales,
        "crackle": _crackle,
        "pebbles": _pebbles,
        "plaid": _plaid,
        "waves": _waves,
        "straw": _straw,
        "spots": _spots,
        "ridges": _ridges,
        "terraces": _terraces,
    }
)
"""Families that may be trained on, by name; the order numbers the classes and may only grow at its end."""

UNSEEN_FAMILIES: Mapping[str, Texture] = MappingProxyType(
    {
        "shards": _shards,
        "wood": _wood,
        "rings": _rings,
        "zigzag": _zigzag,
        "honeycomb": _honeycomb,
        "ripples": _ripples,
    }
)
"""Families that are kept out of training, to see what carries over to textures that are new."""
