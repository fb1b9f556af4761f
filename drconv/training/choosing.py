"""Which items are for validation, and which make up a smaller set: fixed choices that no run's seed changes."""

import numpy as np

from drconv.errors import ArgumentError
from drconv.training.randomness import Stream, item_generator

__all__ = ["VALIDATION_SHARE", "subset", "validation_part"]

VALIDATION_SHARE = 0.1
"""Share of a data set without a validation part that is kept for validation."""


def validation_part(count: int, part: int = 0) -> tuple[list[int], list[int]]:
    """Split the items 0 to `count - 1` into those for training and a tenth, at least one, for validation.

    The choice is the same for every run, so that weights of one seed may be judged by the validation of another.

    Args:
        count: number of items, at least 2.
        part: number of the class or of the set; parts are shuffled differently.
    """
    order = item_generator(Stream.SPLIT, 0, 0, part).permutation(count)
    kept = max(1, round(count * VALIDATION_SHARE))
    return sorted(order[kept:].tolist()), sorted(order[:kept].tolist())


def subset(name: str, count: int, wanted: int | None) -> list[int] | None:
    """Return `wanted` of `count` items, the same for every run, or None for all of them.

    Raises:
        ArgumentError: there are fewer.
    """
    if wanted is None:
        return None
    if isinstance(wanted, bool) or not isinstance(wanted, int) or not 1 <= wanted <= count:
        raise ArgumentError(f"{name} must be 1 to {count}, the number of images that there are, got {name}={wanted!r}")
    order: list[int] = np.sort(item_generator(Stream.SUBSET, 0, 0, 0).permutation(count)[:wanted]).tolist()
    return order
