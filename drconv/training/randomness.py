"""Random numbers that depend on nothing but what an item is: its stream, the seed, the epoch and its index."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch

from drconv.errors import ArgumentError

__all__ = ["Stream", "checked_seed", "item_generator", "item_seed", "seeded_torch"]


class Stream(IntEnum):
    """What the numbers are for; two streams never share any. The values are part of every result: never renumber."""

    TRAIN = 0
    VALIDATION = 1
    UNSEEN = 2
    PHOTOS = 3
    AUGMENTATION = 4
    SPLIT = 5
    SUBSET = 6


def checked_seed(seed: int) -> int:
    """Return a seed that must be an integer of 0 to 2^63 - 1.

    Raises:
        ArgumentError: it is not.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ArgumentError(f"seed must be an integer of at least 0 and below 2^63, got seed={seed!r}")
    return seed


def _sequence(stream: Stream, seed: int, epoch: int, index: int) -> np.random.SeedSequence:
    if min(seed, epoch, index) < 0:
        raise ArgumentError(f"seed, epoch and index must be at least 0, got {seed=}, {epoch=}, {index=}")
    return np.random.SeedSequence((int(stream), seed, epoch, index))


def item_generator(stream: Stream, seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return NumPy's generator for one item.

    Args:
        stream: what the numbers are for.
        seed: of the run.
        epoch: number of passes done before this one; 0 for data that stays the same.
        index: of the item.

    Raises:
        ArgumentError: a number is negative.
    """
    return np.random.Generator(np.random.PCG64(_sequence(stream, seed, epoch, index)))


def item_seed(stream: Stream, seed: int, epoch: int, index: int) -> int:
    """Return a seed of 63 bits for one item, for libraries that draw from torch; arguments as `item_generator`."""
    return int(_sequence(stream, seed, epoch, index).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def seeded_torch(seed: int) -> Iterator[None]:
    """Let torch draw from `seed` on the CPU inside the block, and go on afterwards as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
