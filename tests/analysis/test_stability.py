"""Stability of regions over frames, against counts by hand and Cohen's kappa of scikit-learn."""

import json

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from drconv.analysis.stability import MOST_LAGS, ClipStability, LayerStability, StabilityCounter
from drconv.errors import ArgumentError

RNG = np.random.default_rng(0)


def count(masks: np.ndarray, num_regions: int) -> LayerStability:
    counter = StabilityCounter("a", num_regions)
    for mask in masks:
        counter.add(mask)
    return counter.report()


def test_by_hand() -> None:
    found = count(np.array([[[0, 0, 1, 1]], [[0, 1, 1, 1]], [[0, 0, 2, 1]]]), 4)
    assert found.grid == (1, 4)
    assert found.stability == (None, 3 / 4, 2 / 4)
    # Shares (2, 2), (1, 3) and (2, 1, 1), in quarters.
    assert found.chance == (None, (2 * 1 + 2 * 3) / 16, (1 * 2 + 3 * 1) / 16)
    assert found.held == (1, 3 / 4, 2 / 4)
    assert found.lags == (5 / 8, 3 / 4)
    assert found.lag_chance == (13 / 32, (2 * 2 + 2 * 1) / 16)
    assert found.mean_stability == 5 / 8
    assert found.mean_chance == 13 / 32
    assert found.above_chance == pytest.approx((5 / 8 - 13 / 32) / (1 - 13 / 32))


def test_two_frames_above_chance_are_cohens_kappa() -> None:
    masks = RNG.integers(0, 5, (2, 7, 9))
    masks[1, :4] = masks[0, :4]
    expected = cohen_kappa_score(masks[0].ravel(), masks[1].ravel())
    assert count(masks, 6).above_chance == pytest.approx(expected)


def test_chance_is_the_mean_over_shuffled_frames() -> None:
    masks = np.stack([RNG.choice(3, (8, 8), p=(0.7, 0.2, 0.1)) for _ in range(2)])
    found = count(masks, 3)
    shuffled = [(RNG.permutation(masks[1].ravel()) == masks[0].ravel()).mean() for _ in range(2000)]
    assert found.mean_chance == pytest.approx(np.mean(shuffled), abs=0.01)


def test_lags_and_held_of_many_frames() -> None:
    masks = RNG.integers(0, 3, (MOST_LAGS + 9, 3, 4))
    found = count(masks, 3)
    assert len(found.lags) == MOST_LAGS
    for lag in (1, 2, MOST_LAGS):
        pairs = [(masks[i] == masks[i + lag]).mean() for i in range(len(masks) - lag)]
        assert found.lags[lag - 1] == pytest.approx(np.mean(pairs))
    for t in (0, 1, 3):
        assert found.held[t] == (masks[: t + 1] == masks[0]).all(0).mean()


@pytest.mark.parametrize("num_regions", [1, 3])
def test_one_region_everywhere_says_nothing(num_regions: int) -> None:
    found = count(np.zeros((3, 1, 1), np.int64), num_regions)
    assert (found.mean_stability, found.mean_chance, found.above_chance) == (1, 1, None)


def test_a_single_frame_has_no_stability() -> None:
    found = count(np.zeros((1, 2, 2), np.int64), 2)
    assert (found.stability, found.held, found.lags) == ((None,), (1,), ())
    assert (found.mean_stability, found.mean_chance, found.above_chance) == (None, None, None)


def test_what_is_no_frame() -> None:
    counter = StabilityCounter("a", 2)
    with pytest.raises(ArgumentError, match="got none in a"):
        counter.report()
    with pytest.raises(ArgumentError, match=r"got shape \[1, 2\] and 0 to 2"):
        counter.add(np.array([[0, 2]]))
    with pytest.raises(ArgumentError, match=r"got shape \[0, 2\]"):
        counter.add(np.zeros((0, 2), np.int64))
    counter.add(np.array([[0, 1]]))
    with pytest.raises(ArgumentError, match=r"got a grid of \[2, 1\] in a after \[1, 2\]"):
        counter.add(np.array([[0], [1]]))


def test_table_and_dict() -> None:
    clip = ClipStability((0.0, 0.5), (count(np.array([[[0, 1]], [[0, 0]]]), 2),))
    assert clip.to_table().rows == (("a", "1x2", 2, 0.5, 0.5, 0.0, 0.5),)
    found = clip.to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["layers"][0]["stability"] == [None, 0.5]
