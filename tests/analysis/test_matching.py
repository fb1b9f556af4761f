"""Masks with their regions matched."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score

from drconv.analysis.matching import match_masks
from drconv.errors import ArgumentError

RNG = np.random.default_rng(0)


def test_other_numbers_for_the_same_regions_agree_fully() -> None:
    mask = RNG.integers(0, 4, (6, 5))
    order = np.array([2, 0, 3, 1])
    match = match_masks(mask, order[mask], 4, 4)
    assert match.agreement == 1
    assert match.overlaps == (1, 1, 1, 1)
    assert not match.differs.any()
    assert match.names == tuple(np.argsort(order))
    assert match.adjusted_mutual_information == pytest.approx(1)


def test_the_matching_is_the_best_of_all() -> None:
    first, second = RNG.integers(0, 4, (9, 7)), RNG.integers(0, 4, (9, 7))
    match = match_masks(first, second, 4, 4)
    best = max((first == np.array(order)[second]).mean() for order in itertools.permutations(range(4)))
    assert match.agreement == pytest.approx(best)
    assert match.agreement == pytest.approx(1 - match.differs.mean())
    assert match.adjusted_mutual_information == pytest.approx(adjusted_mutual_info_score(first.ravel(), second.ravel()))


def test_by_hand_with_an_empty_region_and_two_grids() -> None:
    first = np.array([[0, 0, 1, 1]])
    second = np.array([[2, 1]])
    match = match_masks(first, second, 3, 3)
    assert match.first.tolist() == [[0, 0, 1, 1]]
    assert match.second.tolist() == [[0, 0, 1, 1]]
    assert match.names == (2, 1, 0)
    assert match.overlaps == (1, 1, None)


def test_regions_without_a_partner_keep_apart() -> None:
    first, second = np.zeros((1, 3), np.int64), np.array([[0, 1, 2]])
    match = match_masks(first, second, 1, 3)
    assert sorted(match.names) == [0, 1, 2]
    assert match.agreement == pytest.approx(1 / 3)
    assert match.overlaps == (pytest.approx(1 / 3),)
    back = match_masks(second, first, 3, 1)
    assert back.agreement == pytest.approx(1 / 3)
    assert [overlap is None for overlap in back.overlaps].count(True) == 2


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((2, 2)), "got float64"),
        (np.zeros((0, 2), np.int64), r"of \[0, 2\]"),
        (np.full((2, 2), 2), "must hold 0 to 1, got 2 to 2"),
        (np.full((2, 2), -1), "got -1 to -1"),
    ],
)
def test_what_is_no_mask(mask: np.ndarray, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        match_masks(mask, np.zeros((2, 2), np.int64), 2, 2)


def test_one_layer_has_the_same_regions_on_two_images() -> None:
    first, second = np.array([[0, 0, 1]]), np.array([[1, 1, 1]])
    match = match_masks(first, second, 3, 3, same_regions=True)
    assert match.names == (0, 1, 2)
    assert match.agreement == pytest.approx(1 / 3)
    assert match.overlaps == (0, pytest.approx(1 / 3), None)
