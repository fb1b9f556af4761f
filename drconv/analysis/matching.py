"""Two guided masks of the same positions: which region of one is which of the other, and where they differ."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from drconv.analysis.agreement import adjusted_mutual_information, resized
from drconv.errors import ArgumentError

__all__ = ["MaskMatch", "match_masks"]

_Mask = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class MaskMatch:
    """Regions of a second mask named after those of a first one, so that as many positions as possible agree.

    Attributes:
        first: region of every position of the first mask, on the finer grid of each axis, `[U, V]`.
        second: the same of the second mask, under the names of the first; a region without a partner has a name of its
            own, from M of the first mask on.
        names: name of each region of the second mask, `[M]`.
        agreement: share of positions with one name in both.
        overlaps: for each region of the first mask, positions that it shares with its partner over those of either;
            None without a partner or where both are empty.
        adjusted_mutual_information: of the two masks, which no names enter.
    """

    first: _Mask
    second: _Mask
    names: tuple[int, ...]
    agreement: float
    overlaps: tuple[float | None, ...]
    adjusted_mutual_information: float

    @property
    def differs(self) -> NDArray[np.bool_]:
        """Whether the names differ, `[U, V]`."""
        found: NDArray[np.bool_] = self.first != self.second
        return found


def match_masks(
    first: _Mask, second: _Mask, num_first: int, num_second: int, *, same_regions: bool = False
) -> MaskMatch:
    """Match regions by optimal assignment over the positions that they share.

    Args:
        first: region of every position, `[U, V]`.
        second: another mask of the same plane, its own grid.
        num_first: M of the first.
        num_second: M of the second.
        same_regions: whether equal numbers mean one region, as in one layer on two images: nothing is matched then.

    Raises:
        ArgumentError: a mask is empty or not a map of integers, or holds other regions than 0 to M - 1.
    """
    for mask, count in ((first, num_first), (second, num_second)):
        if mask.ndim != 2 or mask.size == 0 or not np.issubdtype(mask.dtype, np.integer):
            raise ArgumentError(f"a mask must be integers of shape [U, V], got {mask.dtype} of {list(mask.shape)}")
        if mask.min() < 0 or mask.max() >= count:
            raise ArgumentError(f"a mask must hold 0 to {count - 1}, got {mask.min()} to {mask.max()}")
    size = (max(first.shape[0], second.shape[0]), max(first.shape[1], second.shape[1]))
    a, b = resized(first, size), resized(second, size)
    shared = np.zeros((num_first, num_second), np.int64)
    np.add.at(shared, (a, b), 1)
    if same_regions:
        rows = columns = np.arange(min(num_first, num_second))
    else:
        rows, columns = linear_sum_assignment(shared, maximize=True)
    names = np.full(num_second, -1)
    names[columns] = rows
    # Regions beyond those of the first mask keep apart from them.
    names[names < 0] = num_first + np.arange((names < 0).sum())
    either = shared.sum(1)[rows] + shared.sum(0)[columns] - shared[rows, columns]
    overlaps: list[float | None] = [None] * num_first
    for row, column, union in zip(rows, columns, either, strict=True):
        overlaps[row] = float(shared[row, column] / union) if union else None
    return MaskMatch(
        a,
        names[b],
        tuple(names.tolist()),
        float((a == names[b]).mean()),
        tuple(overlaps),
        adjusted_mutual_information(a, b),
    )
