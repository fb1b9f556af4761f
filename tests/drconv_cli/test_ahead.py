"""Reading ahead: order, errors, how much is held, and that warnings are as before."""

import threading
import time
import warnings
from pathlib import Path

import pytest

from drconv.viz.image import load_image, pillow_rules
from drconv_cli.ahead import AHEAD, loaded_ahead


def test_order_and_errors_are_those_of_the_items() -> None:
    def load(item: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        if item == 2:
            raise ValueError("two")
        return 10 * item

    with loaded_ahead(range(4), load) as take:
        assert [take(), take()] == [0, 10]
        with pytest.raises(ValueError, match="two"):
            take()
        assert take() == 30


def test_no_more_is_loaded_than_may_be_held() -> None:
    started: list[int] = []
    with loaded_ahead(range(50), started.append) as take:
        for taken in range(1, 4):
            take()
            deadline = time.monotonic() + 5
            while len(started) < taken + AHEAD and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.01)
            assert started == list(range(taken + AHEAD))
    # What was not begun at the end is not loaded.
    assert len(started) == 3 + AHEAD


def test_the_thread_keeps_the_rules_and_leaves_the_filters_alone(photo: Path) -> None:
    before = list(warnings.filters)
    with pillow_rules():
        held = list(warnings.filters)
        with loaded_ahead([photo] * 6, lambda path: load_image(path, 32)) as take:
            for _ in range(6):
                take()
                assert list(warnings.filters) == held
    assert list(warnings.filters) == before


def test_rules_are_for_pillow_alone() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pillow_rules():
            warnings.warn("of somebody else", stacklevel=1)
            warnings.warn_explicit("of Pillow", UserWarning, "TiffImagePlugin.py", 1, "PIL.TiffImagePlugin")
    assert [str(each.message) for each in caught] == ["of somebody else"]
