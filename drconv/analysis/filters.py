"""How the filters of a layer's regions differ: from each other, in rank, and from image to image."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch
from torch import Tensor

__all__ = ["REDUNDANT_COSINE", "REDUNDANT_DISTANCE", "FilterStatistics", "filter_statistics", "redundant_regions"]

REDUNDANT_COSINE = 0.99
"""Filters count as one from this cosine on, if they are also near in length."""

REDUNDANT_DISTANCE = 0.15
"""Largest |Wi - Wj| over the mean of |Wi| and |Wj| at which filters count as one."""


@dataclass(frozen=True)
class FilterStatistics:
    """Filters of one layer as matrices `[O, C/groups * K * K]`; over a batch, of the mean filters.

    Attributes:
        distances: |Wi - Wj| over the mean of |Wi| and |Wj|, `[M, M]`. None where it is not finite.
        singular_values: of each region's filter, largest first, `[M, min(O, C/groups * K * K)]`; none if it is not
            finite.
        effective_ranks: exp of the entropy of the singular values as shares of their sum (Roy and Vetterli, EUSIPCO
            2007), `[M]`. None for a zero filter.
        movements: root of the mean squared distance of a region's filter from its mean over the images, over the norm
            of that mean, `[M]`. None with one image.
    """

    distances: tuple[tuple[float | None, ...], ...]
    singular_values: tuple[tuple[float, ...], ...]
    effective_ranks: tuple[float | None, ...]
    movements: tuple[float | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "distances": [list(row) for row in self.distances],
            "singular_values": [list(row) for row in self.singular_values],
            "effective_ranks": list(self.effective_ranks),
            "movements": list(self.movements),
        }


@torch.no_grad()
def filter_statistics(filters: Tensor) -> FilterStatistics:
    """Measure the filters of one layer.

    Args:
        filters: `[B, M, O, C/groups, K, K]`, or `[M, ...]` if the images share them.
    """
    batch = (filters if filters.dim() == 6 else filters[None]).double()
    mean = batch.mean(0)  # [M, O, C/groups, K, K]
    flat = mean.flatten(1)
    norms = flat.norm(dim=1)
    # Not torch.cdist, which goes through a product and loses small distances.
    distances = torch.stack([(flat - row).norm(dim=1) for row in flat]) / ((norms[:, None] + norms) / 2)
    spectra = [torch.linalg.svdvals(w) if bool(w.isfinite().all()) else w.new_empty(0) for w in mean.flatten(2)]
    spread = (batch - mean).flatten(2).square().sum(2).mean(0).sqrt() / norms
    return FilterStatistics(
        tuple(map(_finite, distances)),
        tuple(tuple(spectrum.tolist()) for spectrum in spectra),
        tuple(map(_effective_rank, spectra)),
        (None,) * len(mean) if len(batch) == 1 else _finite(spread),
    )


def redundant_regions(
    norms: Sequence[float | None], cosines: Sequence[Sequence[float | None]]
) -> list[tuple[tuple[int, ...], float]]:
    """Return groups of regions whose filters are one, each with the smallest cosine within it.

    Args:
        norms: of the filters, `[M]`.
        cosines: between them, `[M, M]`.
    """
    groups: list[list[int]] = []
    for j in range(len(norms)):
        fitting = (g for g in groups if all(_is_one(norms[i], norms[j], cosines[i][j]) for i in g))
        group = next(fitting, None)
        if group is None:
            groups.append([j])
        else:
            group.append(j)
    found = []
    for group in groups:
        within = [c for i in group for j in group if i < j and (c := cosines[i][j]) is not None]
        if within:
            found.append((tuple(group), min(within)))
    return found


def _is_one(a: float | None, b: float | None, cosine: float | None) -> bool:
    if a is None or b is None or cosine is None or cosine < REDUNDANT_COSINE:
        return False
    distance = sqrt(max(0.0, a * a + b * b - 2 * a * b * cosine))
    return distance <= REDUNDANT_DISTANCE * (a + b) / 2


def _effective_rank(spectrum: Tensor) -> float | None:
    total = spectrum.sum()
    if not bool(total > 0):
        return None
    share = spectrum / total
    return float(torch.special.entr(share).sum().exp())


def _finite(values: Tensor) -> tuple[float | None, ...]:
    return tuple(v if ok else None for v, ok in zip(values.tolist(), torch.isfinite(values).tolist(), strict=True))
