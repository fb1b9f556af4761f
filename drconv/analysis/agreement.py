"""How well two partitions of the same positions agree, by the measures of scikit-learn (extra `viz`)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from drconv.errors import ArgumentError

__all__ = ["LabelAgreement", "adjusted_mutual_information", "label_agreement", "resized"]

_Map = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class LabelAgreement:
    """A guided mask beside a map of classes.

    Attributes:
        nmi: normalised mutual information, arithmetic mean, 0 to 1.
        ari: adjusted Rand index, 1 for equal partitions and about 0 for unrelated ones.
        classes: values of the label map, rising; ignored ones left out.
        table: pixels of each region and class, `[M, classes]`.
    """

    nmi: float
    ari: float
    classes: tuple[int, ...]
    table: tuple[tuple[int, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "nmi": self.nmi,
            "ari": self.ari,
            "classes": list(self.classes),
            "table": [list(row) for row in self.table],
        }


def resized(guided_mask: _Map, size: tuple[int, int]) -> _Map:
    """Return a mask `[U, V]` on another grid, each position taking the value of the one it falls into."""
    rows, columns = (
        ((np.arange(to) + 0.5) * of / to).astype(np.int64) for of, to in zip(guided_mask.shape, size, strict=True)
    )
    found: _Map = guided_mask[np.ix_(rows, columns)]
    return found


def adjusted_mutual_information(a: _Map, b: _Map) -> float:
    """Return the adjusted mutual information of two masks, compared on the finer grid of each axis.

    1 for the same partition, about 0 for unrelated ones; 1 where both have one region (scikit-learn's convention).
    """
    size = (max(a.shape[0], b.shape[0]), max(a.shape[1], b.shape[1]))
    return float(adjusted_mutual_info_score(resized(a, size).ravel(), resized(b, size).ravel()))


def label_agreement(
    guided_mask: _Map, labels: _Map, num_regions: int, ignore: tuple[int, ...] = (255,)
) -> LabelAgreement:
    """Compare a mask with a map of classes, at the labels' size.

    Args:
        guided_mask: region of every position, `[U, V]`.
        labels: class of every pixel, `[H, W]`.
        num_regions: M.
        ignore: values of `labels` that stand for no class, such as VOC's 255.

    Raises:
        ArgumentError: `labels` is no map of integers, or no pixel of it counts.
    """
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise ArgumentError(f"labels must be integers of shape [H, W], got {labels.dtype} of {list(labels.shape)}")
    counted = ~np.isin(labels, ignore)
    if not counted.any():
        raise ArgumentError(f"labels hold no class: every pixel is one of the ignored values {list(ignore)}")
    regions, classes = resized(guided_mask, (labels.shape[0], labels.shape[1]))[counted], labels[counted]
    names = np.unique(classes)
    table = np.zeros((num_regions, len(names)), np.int64)
    table[np.unique(regions)] = contingency_matrix(regions, classes)
    return LabelAgreement(
        float(normalized_mutual_info_score(classes, regions)),
        float(adjusted_rand_score(classes, regions)),
        tuple(names.tolist()),
        tuple(tuple(row) for row in table.tolist()),
    )
