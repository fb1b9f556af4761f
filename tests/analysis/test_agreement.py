"""Partitions against each other and against classes."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from drconv.analysis.agreement import label_agreement, resized
from drconv.errors import ArgumentError


def test_resized_takes_the_nearest_position() -> None:
    mask = np.array([[0, 1], [2, 3]])
    assert resized(mask, (4, 2)).tolist() == [[0, 1], [0, 1], [2, 3], [2, 3]]
    assert resized(resized(mask, (6, 8)), (2, 2)).tolist() == mask.tolist()


def test_labels_against_scikit_learn_with_ignored_pixels() -> None:
    rng = np.random.default_rng(0)
    mask, labels = rng.integers(0, 3, (3, 4)), rng.choice([0, 7, 255], (6, 8)).astype(np.uint8)
    found = label_agreement(mask, labels, 5)
    large, kept = mask.repeat(2, 0).repeat(2, 1), labels != 255
    assert found.nmi == pytest.approx(normalized_mutual_info_score(labels[kept], large[kept]))
    assert found.ari == pytest.approx(adjusted_rand_score(labels[kept], large[kept]))
    assert found.classes == (0, 7)
    assert np.shape(found.table) == (5, 2)
    for region in range(5):
        for column, name in enumerate((0, 7)):
            assert found.table[region][column] == int(((large == region) & (labels == name)).sum())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 2, 3), np.uint8), r"of shape \[H, W\], got uint8 of \[2, 2, 3\]"),
        (np.zeros((2, 2)), "got float64"),
        (np.full((2, 2), 255, np.uint8), r"every pixel is one of the ignored values \[255\]"),
    ],
)
def test_labels_that_are_none(labels: np.ndarray, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        label_agreement(np.zeros((2, 2), np.int64), labels, 2)
