"""How steady regions are from frame to frame of a clip, beside what chance alone would give."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drconv.errors import ArgumentError
from drconv.report import Cell, Column, Table

__all__ = ["MOST_LAGS", "ClipStability", "LayerStability", "StabilityCounter"]

MOST_LAGS = 30
"""Frames up to so far apart are compared; so many masks are kept."""

_Mask = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class LayerStability:
    """How steady the regions of one layer are over T frames.

    Agreement of two frames is the share of positions that have one region in both. Its expectation by chance is the
    sum over regions of the product of their shares in the two frames: what would agree on average if the positions of
    one frame were shuffled (the expected agreement of Cohen's kappa, Educational and Psychological Measurement 1960).
    With one region everywhere both are 1, and nothing can be learned from them.

    Attributes:
        name: of the layer in its model.
        grid: (U, V), positions of the map.
        num_regions: M.
        stability: agreement of each frame with the frame before, `[T]`; None for the first.
        chance: its expectation by chance, `[T]`; None for the first.
        held: share of positions whose region has been the same in every frame since the first, `[T]`.
        lags: mean agreement of all pairs of frames that are 1, 2, ... apart, up to `MOST_LAGS`.
        lag_chance: its expectation by chance, as long as `lags`.
    """

    name: str
    grid: tuple[int, int]
    num_regions: int
    stability: tuple[float | None, ...]
    chance: tuple[float | None, ...]
    held: tuple[float, ...]
    lags: tuple[float, ...]
    lag_chance: tuple[float, ...]

    @property
    def mean_stability(self) -> float | None:
        """The temporal stability score: the mean of `stability`; None with one frame."""
        return self.lags[0] if self.lags else None

    @property
    def mean_chance(self) -> float | None:
        """The mean of `chance`; None with one frame."""
        return self.lag_chance[0] if self.lag_chance else None

    @property
    def above_chance(self) -> float | None:
        """Which part of what chance leaves open is stable, (score - chance) / (1 - chance): 1 steady, 0 chance."""
        score, chance = self.mean_stability, self.mean_chance
        return None if score is None or chance is None or chance >= 1 else (score - chance) / (1 - chance)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "name": self.name,
            "grid": list(self.grid),
            "num_regions": self.num_regions,
            "mean_stability": self.mean_stability,
            "mean_chance": self.mean_chance,
            "above_chance": self.above_chance,
            "stability": list(self.stability),
            "chance": list(self.chance),
            "held": list(self.held),
            "lags": list(self.lags),
            "lag_chance": list(self.lag_chance),
        }


@dataclass(frozen=True)
class ClipStability:
    """The stability of all chosen layers over one clip.

    Attributes:
        times: of the frames, seconds from the first frame of the clip, `[T]`.
        layers: in the order they ran.
    """

    times: tuple[float, ...]
    layers: tuple[LayerStability, ...]

    def to_table(self) -> Table:
        """Return one row per layer."""
        columns = (
            Column("layer"),
            Column("grid"),
            Column("frames", "count"),
            Column("stability", "share"),
            Column("by chance", "share"),
            Column("above chance", "number"),
            Column("held to the end", "share"),
        )
        rows: list[tuple[Cell, ...]] = [
            (
                x.name,
                f"{x.grid[0]}x{x.grid[1]}",
                len(x.held),
                x.mean_stability,
                x.mean_chance,
                x.above_chance,
                x.held[-1],
            )
            for x in self.layers
        ]
        return Table("Stability of regions from frame to frame", columns, tuple(rows))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; unknown numbers are None."""
        return {"times": list(self.times), "layers": [layer.to_dict() for layer in self.layers]}


class StabilityCounter:
    """Counts frame by frame; keeps the masks of the last `MOST_LAGS` frames and a few numbers for each frame."""

    def __init__(self, name: str, num_regions: int) -> None:
        self.name = name
        self.num_regions = num_regions
        self._recent: deque[tuple[_Mask, NDArray[np.float64]]] = deque(maxlen=MOST_LAGS)
        self._first: _Mask = np.zeros((0, 0), np.int64)
        self._unmoved: NDArray[np.bool_] = np.zeros((0, 0), np.bool_)
        self._stability: list[float | None] = []
        self._chance: list[float | None] = []
        self._held: list[float] = []
        self._sums = np.zeros((2, MOST_LAGS))
        self._pairs = np.zeros(MOST_LAGS, np.int64)

    def add(self, mask: _Mask) -> None:
        """Count one frame.

        Args:
            mask: region of every position, `[U, V]`; the grid is that of the frames before.

        Raises:
            ArgumentError: the grid has changed, the mask is empty, or holds other regions than 0 to M - 1.
        """
        if mask.ndim != 2 or mask.size == 0 or mask.min() < 0 or mask.max() >= self.num_regions:
            raise ArgumentError(
                f"the mask of {self.name} must be of shape [U, V] and hold 0 to {self.num_regions - 1}, got shape "
                f"{list(mask.shape)}" + (f" and {mask.min()} to {mask.max()}" if mask.size else "")
            )
        if not self._held:
            self._first, self._unmoved = mask, np.ones(mask.shape, np.bool_)
        elif mask.shape != self._first.shape:
            raise ArgumentError(
                f"the frames of a clip must have one size, got a grid of {list(mask.shape)} in {self.name} after "
                f"{list(self._first.shape)}"
            )
        shares = np.bincount(mask.ravel(), minlength=self.num_regions) / mask.size
        stability = chance = None
        for lag, (other, other_shares) in enumerate(reversed(self._recent)):
            agreement, expected = float((mask == other).mean()), float(shares @ other_shares)
            if lag == 0:
                stability, chance = agreement, expected
            self._sums[:, lag] += agreement, expected
            self._pairs[lag] += 1
        self._unmoved &= mask == self._first
        self._stability.append(stability)
        self._chance.append(chance)
        self._held.append(float(self._unmoved.mean()))
        self._recent.append((mask, shares))

    @property
    def last(self) -> tuple[float | None, float | None, float]:
        """Stability, chance and held share of the frame that was added last.

        Raises:
            ArgumentError: no frame was added.
        """
        self._check_begun()
        return self._stability[-1], self._chance[-1], self._held[-1]

    def report(self) -> LayerStability:
        """Return the numbers.

        Raises:
            ArgumentError: no frame was added.
        """
        self._check_begun()
        count = int((self._pairs > 0).sum())
        lags, lag_chance = (tuple((row[:count] / self._pairs[:count]).tolist()) for row in self._sums)
        height, width = self._first.shape
        return LayerStability(
            self.name,
            (height, width),
            self.num_regions,
            tuple(self._stability),
            tuple(self._chance),
            tuple(self._held),
            lags,
            lag_chance,
        )

    def _check_begun(self) -> None:
        if not self._held:
            raise ArgumentError(f"there must be a frame to report on, got none in {self.name}; add one first")
