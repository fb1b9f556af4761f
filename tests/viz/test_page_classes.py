"""The page's table of regions and classes, against counts by hand, as a file and in a browser."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drconv.analysis import with_labels
from drconv.viz.page.classes import MOST_CLASSES, class_table
from tests.browser import open_browser
from tests.viz.pages import Case, recorded

GRID = (6, 8)


def labelled(case: Case, labels: np.ndarray) -> Case:
    return replace(case, statistics=with_labels(case.statistics, case.masks, labels))


@pytest.fixture(scope="module")
def case() -> Case:
    return recorded(("first", 4, GRID), ("second", 3, (3, 4)))


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    found = np.random.default_rng(1).choice((0, 7, 255), GRID)
    found[0, 0] = 0
    return found


def test_numbers_by_hand(case: Case, labels: np.ndarray) -> None:
    labels = labels.copy()
    labels[case.masks["first"] == 2] = 255  # a region that occurs, but has no class anywhere
    table = class_table(labelled(case, labels).statistics.layers[0])
    assert table is not None
    assert table.headings == ("class 0", "class 7")
    for region in range(4):
        inside = labels[(case.masks["first"] == region) & (labels != 255)]
        assert table.pixels[region] == str(inside.size)
        if region == 2:
            assert table.shares[region] == ("–", "–")  # noqa: RUF001
            continue
        for column, name in enumerate((0, 7)):
            assert table.counts[region][column] == str((inside == name).sum())
            share = 100 * float((inside == name).mean())
            assert table.shares[region][column] == (f"{share:.2f} %" if share else "0 %")
    counted = labels[labels != 255]
    assert table.all_pixels == str(counted.size)
    assert table.all_shares[0] == f"{100 * (counted == 0).mean():.2f} %"


def test_many_classes_share_a_column(case: Case) -> None:
    labels = np.arange(48).reshape(GRID)
    labels[0] = 3  # the first row, eight pixels
    table = class_table(labelled(case, labels).statistics.layers[0])
    assert table is not None
    assert len(table.headings) == MOST_CLASSES + 1
    assert table.headings[0] == "class 3", "the largest is among those that are kept"
    assert table.headings[-1] == f"{41 - MOST_CLASSES} others"
    for region, counts in enumerate(table.counts):
        assert sum(map(int, counts)) == int(table.pixels[region]) == (case.masks["first"] == region).sum()


def test_no_labels_no_table(case: Case) -> None:
    assert class_table(case.statistics.layers[0]) is None
    assert "classes of the labels" not in case.page()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as found:
        yield found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(case: Case, labels: np.ndarray, browser: Any, scheme: str, width: int, tmp_path: Path) -> None:
    whole = labelled(case, labels)
    (tmp_path / "page.html").write_text(whole.page(), encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector("html.ready")

    table = page.locator("#layer-0 .classes table")
    cells = [row.split("\t") for row in table.inner_text().splitlines()]
    expected = class_table(whole.statistics.layers[0])
    assert expected is not None
    assert cells[0] == ["region", "pixels", *expected.headings]
    for region in range(4):
        assert [x.strip() for x in cells[region + 1]] == [
            f"region {region}", expected.pixels[region], *expected.shares[region],
        ]  # fmt: skip
    assert expected.scores in page.locator("#layer-0 .classes .facts").inner_text()

    page.locator('#layer-0 tbody button[value="2"]').first.click()
    chosen = page.locator("#layer-0 tr.chosen")
    assert [chosen.nth(i).locator("th").inner_text().strip() for i in range(chosen.count())] == ["region 2"] * 2
    wide = page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert wide, "the table scrolls in itself, and the page does not"
    context.close()
    assert complaints == []
