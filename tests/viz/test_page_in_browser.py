"""The interactive page in a browser: every number against the scores it was made from, by pointer, touch and keys."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.browser import open_browser
from tests.viz.pages import HOSTILE, Case, recorded

Page = Any
Opener = Callable[..., Page]

NAMES = ("first", "second", "third")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as found:
        yield found


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Opener]:
    """Open a page whose every word to the console, error and request counts as a failure."""
    complaints: list[str] = []
    contexts = []

    def open(text: str, **options: Any) -> Page:
        file = tmp_path / "page.html"
        file.write_text(text, encoding="utf-8")
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()

        def route(route: Any) -> None:
            if route.request.url == file.as_uri():
                route.continue_()
            else:
                complaints.append(f"request: {route.request.url}")
                route.abort()

        context.route("**/*", route)
        page.on("request", lambda r: r.url.startswith(("file:", "data:")) or complaints.append(f"request: {r.url}"))
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (complaints.append("dialog"), dialog.dismiss()))
        page.set_default_timeout(10_000)
        page.goto(file.as_uri())
        page.wait_for_selector("html.ready")
        return page

    yield open
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def case() -> Case:
    return recorded(("first", 4, (6, 8)), ("second", 6, (3, 4)), ("third", 2, (1, 1)), full=True)


def field(page: Page, layer: int, name: str) -> str:
    return str(page.locator(f'#layer-{layer} [data-field="{name}"]').inner_text())


def point_at(page: Page, case: Case, layer: int, row: int, column: int) -> tuple[float, float]:
    """Return where on the screen a position is, scrolled into view."""
    rows, columns = case.masks[NAMES[layer]].shape
    stage = page.locator(f"#layer-{layer} .map")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    return box["x"] + (column + 0.5) / columns * box["width"], box["y"] + (row + 0.5) / rows * box["height"]


def pixels(page: Page, layer: int) -> np.ndarray:
    """Return what the canvas holds, `[U, V, 4]`."""
    script = """canvas => {
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
        copy.drawImage(canvas, 0, 0);
        return [canvas.height, canvas.width, [...copy.getImageData(0, 0, canvas.width, canvas.height).data]];
    }"""
    rows, columns, values = page.locator(f"#layer-{layer} canvas").evaluate(script)
    return np.array(values, np.uint8).reshape(rows, columns, 4)


def assert_reads(page: Page, case: Case, layer: int, row: int, column: int) -> None:
    """The reading is what the mask, the margins and the filters say of a position, worked out here."""
    mask, margins = case.masks[NAMES[layer]], case.margins[NAMES[layer]]
    region = int(mask[row, column])
    inside = mask == region
    assert field(page, layer, "region") == f"Region {region}"
    assert field(page, layer, "position") == f"row {row}, column {column}"
    assert field(page, layer, "margin") == f"{margins[row, column]:.4f}"
    assert field(page, layer, "positions") == str(inside.sum())
    assert field(page, layer, "share") == f"{100 * inside.mean():.2f} %"
    assert float(field(page, layer, "mean margin")) == pytest.approx(margins[inside].mean(), abs=6e-5)
    cosines = np.array(case.statistics.layers[layer].filter_cosines[region], dtype=float)
    cosines[region] = -2
    assert field(page, layer, "nearest filter") == f"region {cosines.argmax()}"
    assert field(page, layer, "cosine") == f"{cosines.max():.4f}"


def test_hovering_reads_positions(open_page: Opener, case: Case) -> None:
    page = open_page(case.page())
    for row, column in ((0, 0), (5, 7), (2, 3), (0, 7), (4, 1)):
        page.mouse.move(*point_at(page, case, 0, row, column))
        assert_reads(page, case, 0, row, column)
    assert page.locator("#layer-0 .nearest").is_hidden(), "hovering selects nothing"


def test_a_touch_reads_and_selects(open_page: Opener, case: Case) -> None:
    page = open_page(case.page(), has_touch=True, is_mobile=True, viewport={"width": 400, "height": 800})
    page.touchscreen.tap(*point_at(page, case, 0, 3, 5))
    assert_reads(page, case, 0, 3, 5)
    assert field(page, 0, "chosen") == f"region {case.masks['first'][3, 5]}"


def test_the_map_shows_every_region_in_its_color(open_page: Opener, case: Case) -> None:
    from drconv.viz import region_colors

    page = open_page(case.page())
    shown = pixels(page, 0)
    assert (shown[..., 3] == 255).all()
    np.testing.assert_allclose(shown[..., :3] / 255, region_colors(4)[case.masks["first"]], atol=0.003)
    assert page.locator("#layer-0 canvas").evaluate("c => getComputedStyle(c).imageRendering") == "pixelated"


def test_a_box_of_the_legend_hides_exactly_its_region(open_page: Opener, case: Case) -> None:
    page = open_page(case.page())
    mask = case.masks["first"]
    boxes = page.locator("#layer-0 .legend input")
    boxes.nth(2).uncheck()
    np.testing.assert_array_equal(pixels(page, 0)[..., 3] == 0, mask == 2)
    assert page.locator("#layer-0 .numbers span", has_text="2").is_hidden()
    boxes.nth(0).uncheck()
    np.testing.assert_array_equal(pixels(page, 0)[..., 3] == 0, (mask == 2) | (mask == 0))
    boxes.nth(2).check()
    np.testing.assert_array_equal(pixels(page, 0)[..., 3] == 0, mask == 0)
    page.click("#layer-0 .both button[value=none]")
    assert not pixels(page, 0)[..., 3].any()
    assert page.locator("#layer-0 .lines path").first.get_attribute("d") == ""
    page.click("#layer-0 .both button[value=all]")
    assert (pixels(page, 0)[..., 3] == 255).all()
    assert (pixels(page, 1)[..., 3] == 255).all(), "other layers are as they were"


def test_the_slider_sets_the_opacity(open_page: Opener, case: Case) -> None:
    page = open_page(case.page())
    canvas, slider = page.locator("#layer-0 canvas"), page.locator("#layer-0 input[type=range]")
    opacity = "c => Number(getComputedStyle(c).opacity)"
    assert canvas.evaluate(opacity) == pytest.approx(0.6)
    slider.fill("25")
    assert canvas.evaluate(opacity) == pytest.approx(0.25)
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert canvas.evaluate(opacity) == pytest.approx(0.3)
    assert page.locator("#layer-0 output").inner_text() == "30 %"


def edges(mask: np.ndarray) -> set[tuple[str, int, int]]:
    """Return the unit edges between unlike neighbours: direction, and where they start."""
    upright = {("V", int(c) + 1, int(r)) for r, c in np.argwhere(mask[:, 1:] != mask[:, :-1])}
    return upright | {("H", int(c), int(r) + 1) for r, c in np.argwhere(mask[1:] != mask[:-1])}


def drawn_edges(path: str) -> set[tuple[str, int, int]]:
    found = set()
    for x, y, way, end in re.findall(r"M(\d+) (\d+)([VH])(\d+)", path):
        start = int(y) if way == "V" else int(x)
        for at in range(start, int(end)):
            found.add((way, int(x), at) if way == "V" else (way, at, int(y)))
    return found


def test_boundaries_only(open_page: Opener, case: Case) -> None:
    page = open_page(case.page())
    page.locator("#layer-0 input[value=boundaries]").check()
    assert page.locator("#layer-0 canvas").is_hidden()
    path = page.locator("#layer-0 .lines path").first.get_attribute("d")
    assert drawn_edges(path) == edges(case.masks["first"])
    page.locator("#layer-0 input[value=fill]").check()
    assert page.locator("#layer-0 canvas").is_visible()


def test_margins_are_shaded_from_0_to_the_largest(open_page: Opener, case: Case) -> None:
    page = open_page(case.page())
    page.locator("#layer-0 input[value=margins]").check()
    margins = case.margins["first"]
    assert field(page, 0, "largest") == f"{margins.max():.4f}"
    light = pixels(page, 0)[..., :3].astype(int).sum(-1)
    order = np.argsort(margins.ravel())
    assert (np.diff(light.ravel()[order]) >= 0).all(), "lighter is more decided"
    assert light.max() > 2 * light.min()


def shown_panels(page: Page) -> list[int]:
    return [j for j in range(len(NAMES)) if page.locator(f"#layer-{j}").is_visible()]


def test_tabs_by_mouse(open_page: Opener, case: Case) -> None:
    page = open_page(case.page())
    assert shown_panels(page) == [0]
    page.click("#tab-1")
    assert shown_panels(page) == [1]
    page.mouse.move(*point_at(page, case, 1, 2, 3))
    assert_reads(page, case, 1, 2, 3)
    assert page.locator("#layer-1 .map img").evaluate("i => i.complete && i.naturalWidth") == 64


def test_tabs_by_keys(open_page: Opener, case: Case) -> None:
    page = open_page(case.page())
    page.keyboard.press("Tab")
    tabs = page.locator("[role=tab]")
    for key, expected in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowRight", 0), ("ArrowLeft", 2), ("Home", 0),
                          ("End", 2), ("ArrowLeft", 1)):  # fmt: skip
        page.keyboard.press(key)
        assert shown_panels(page) == [expected]
        assert page.evaluate("document.activeElement.id") == f"tab-{expected}"
        assert [tabs.nth(j).get_attribute("aria-selected") for j in range(3)] == [
            str(j == expected).lower() for j in range(3)
        ]
        assert [tabs.nth(j).get_attribute("tabindex") for j in range(3)] == [
            "0" if j == expected else "-1" for j in range(3)
        ]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "application", "on to the map"
    outline = page.evaluate(
        "getComputedStyle(document.activeElement).outlineStyle + document.activeElement.closest('section').id"
    )
    assert outline == "solidlayer-1", "focus is visible"


def test_the_cursor_moves_by_keys(open_page: Opener, case: Case) -> None:
    page = open_page(case.page())
    page.focus("#layer-0 .map")
    assert_reads(page, case, 0, 3, 4)
    row, column = 3, 4
    moves = {"ArrowUp": (-1, 0), "ArrowLeft": (0, -1), "ArrowDown": (1, 0), "ArrowRight": (0, 1), "Home": (0, -8),
             "Shift+ArrowRight": (0, 5), "End": (0, 8), "Shift+ArrowUp": (-5, 0)}  # fmt: skip
    for key, (down, right) in moves.items():
        page.keyboard.press(key)
        row, column = min(5, max(0, row + down)), min(7, max(0, column + right))
        assert_reads(page, case, 0, row, column)
    said = page.locator("#layer-0 [role=status]").inner_text()
    assert said == f"Row 0, column 7: region {case.masks['first'][0, 7]}, margin {case.margins['first'][0, 7]:.4f}"
    x, y = point_at(page, case, 0, 0, 7)
    box = page.locator("#layer-0 .cursor").bounding_box()
    assert (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) == pytest.approx((x, y), abs=1)


def neighbours(page: Page, layer: int) -> list[tuple[str, str]]:
    items = page.locator(f"#layer-{layer} .nearest li")
    return [
        (items.nth(j).locator("button").inner_text().strip(), items.nth(j).locator("span").inner_text())
        for j in range(items.count())
    ]


def expected_neighbours(case: Case, layer: int, region: int) -> list[tuple[str, str]]:
    cosines = case.statistics.layers[layer].filter_cosines[region]
    order = sorted((j for j in range(len(cosines)) if j != region), key=lambda j: -(cosines[j] or 0))
    return [(f"region {j}", f"{cosines[j]:.4f}") for j in order]


def test_a_click_lists_the_nearest_filters(open_page: Opener, case: Case) -> None:
    page = open_page(case.page())
    region = int(case.masks["first"][4, 6])
    page.mouse.click(*point_at(page, case, 0, 4, 6))
    assert field(page, 0, "chosen") == f"region {region}"
    assert neighbours(page, 0) == expected_neighbours(case, 0, region)
    opaque = pixels(page, 0)[..., 3] == 255
    np.testing.assert_array_equal(opaque, case.masks["first"] == region)
    assert page.locator("#layer-0 tbody tr.chosen th").inner_text().strip() == f"region {region}"
    page.mouse.click(*point_at(page, case, 0, 4, 6))
    assert page.locator("#layer-0 .nearest").is_hidden(), "a second click lets go"
    assert (pixels(page, 0)[..., 3] == 255).all()


def test_enter_and_escape_select_and_let_go(open_page: Opener, case: Case) -> None:
    page = open_page(case.page())
    page.focus("#layer-0 .map")
    page.keyboard.press("ArrowLeft")
    region = int(case.masks["first"][3, 3])
    page.keyboard.press("Enter")
    assert neighbours(page, 0) == expected_neighbours(case, 0, region)
    page.keyboard.press("Escape")
    assert page.locator("#layer-0 .nearest").is_hidden()


def test_the_table_and_the_list_select_too(open_page: Opener, case: Case) -> None:
    page = open_page(case.page())
    page.locator("#layer-0 tbody button").nth(3).focus()
    page.keyboard.press("Enter")
    assert neighbours(page, 0) == expected_neighbours(case, 0, 3)
    assert field(page, 0, "region") == "Region 3"
    assert field(page, 0, "position") == "–"  # noqa: RUF001
    page.locator("#layer-0 .nearest button").first.click()
    first = int(expected_neighbours(case, 0, 3)[0][0].removeprefix("region "))
    assert neighbours(page, 0) == expected_neighbours(case, 0, first)


def test_a_layer_of_one_region_and_one_position(open_page: Opener) -> None:
    page = open_page(recorded(("first", 1, (1, 1))).page())
    page.focus(".map")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert field(page, 0, "position") == "row 0, column 0"
    assert field(page, 0, "margin") == "1.0000"
    assert field(page, 0, "remark") == "This layer has no other region."
    assert pixels(page, 0).shape == (1, 1, 4)


def test_a_region_that_never_occurs(open_page: Opener) -> None:
    scores = torch.zeros(1, 3, 2, 2)
    scores[0, 1] = -9.0
    scores[0, 0, 0] = 1.0
    scores[0, 2, 1] = 1.0
    case = recorded(("first", 3, (2, 2)), scores={"first": scores})
    page = open_page(case.page())
    assert [page.locator(".numbers span").nth(j).inner_text() for j in range(2)] == ["0", "2"]
    page.locator("tbody button").nth(1).click()
    assert (field(page, 0, "positions"), field(page, 0, "mean margin")) == ("0", "–")  # noqa: RUF001
    assert neighbours(page, 0) == expected_neighbours(case, 0, 1)
    page.locator(".legend input").nth(1).uncheck()
    assert (pixels(page, 0)[..., 3] > 0).all()


def test_scores_that_are_not_finite(open_page: Opener) -> None:
    scores = torch.zeros(1, 2, 2, 2)
    scores[0, 1, 0, 0] = float("nan")
    scores[0, 0, 1, 1] = float("inf")
    case = recorded(("first", 2, (2, 2)), scores={"first": scores})
    page = open_page(case.page())
    for (row, column), known in {(0, 0): False, (0, 1): True, (1, 0): True, (1, 1): False}.items():
        page.mouse.move(*point_at(page, case, 0, row, column))
        assert field(page, 0, "margin") == ("0.0000" if known else "unknown, scores are not finite")
        assert field(page, 0, "region") == f"Region {case.masks['first'][row, column]}"
    page.locator("input[value=margins]").check()
    assert (pixels(page, 0)[..., 3] > 0).tolist() == [[False, True], [True, False]]


def test_filters_without_a_direction(open_page: Opener, case: Case) -> None:
    from dataclasses import replace

    (first, *_) = case.statistics.layers
    none = ((None,) * 4,) * 4
    broken = replace(first, filter_cosines=none, filter_norms=(None,) * 4)
    page = open_page(replace(case, statistics=replace(case.statistics, layers=(broken,))).page())
    page.mouse.click(*point_at(page, case, 0, 0, 0))
    assert field(page, 0, "remark") == "No cosine is known: a filter is zero or not finite."
    assert (field(page, 0, "filter norm"), field(page, 0, "nearest filter")) == ("–", "–")  # noqa: RUF001


def test_hostile_names_are_shown_and_not_run(open_page: Opener) -> None:
    page = open_page(recorded((HOSTILE, 2, (3, 3))).page(HOSTILE, (HOSTILE,)))
    shown = HOSTILE.replace("\n", " ").replace("\udc80", "�").replace("\x00", "�")
    assert page.title() == " ".join(shown.split())
    assert page.locator("h1").text_content() == shown
    assert shown in page.locator("[role=tab]").text_content()
    assert page.locator("img").count() == 1
    assert page.locator("script").count() == 2


def test_other_scripts_may_not_run(browser: Any, case: Case, tmp_path: Path) -> None:
    """Even if a text ever got past the escaping, the page's policy would stop it."""
    file = tmp_path / "page.html"
    inserted = '<script>window.ran = 1</script><img src=x onerror="window.ran = 2"><img src="https://127.0.0.1/y">'
    file.write_text(case.page().replace("<main>", f"<main>{inserted}", 1), encoding="utf-8")
    page = browser.new_page()
    asked: list[str] = []
    page.on("response", lambda response: asked.append(response.url))
    page.goto(file.as_uri())
    page.wait_for_selector("html.ready")
    assert page.evaluate("window.ran") is None
    assert {url for url in asked if not url.startswith("data:")} == {file.as_uri()}
    page.close()


def luminance(color: str) -> float:
    red, green, blue = (int(value) for value in re.findall(r"\d+", color)[:3])
    values = [v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in (red, green, blue)]
    return 0.2126 * values[0] + 0.7152 * values[1] + 0.0722 * values[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_in_light_and_dark(open_page: Opener, case: Case, scheme: str) -> None:
    page = open_page(case.page(notes=("a note",)), color_scheme=scheme)
    paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (luminance(paper) < 0.1) == (scheme == "dark")
    page.mouse.click(*point_at(page, case, 0, 2, 2))
    contrasts = page.evaluate("""() => [...document.querySelectorAll("body *")].filter(
        e => e.offsetParent && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())
    ).map(e => {
        let behind = e;
        while (behind && getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
        return [e.textContent.trim().slice(0, 30), getComputedStyle(e).color, getComputedStyle(behind).backgroundColor];
    })""")
    assert len(contrasts) > 50
    for text, ink, ground in contrasts:
        light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ink, ground)


def test_a_phone_needs_no_sideways_scrolling(open_page: Opener) -> None:
    names = ("first", "a_rather_long_block_name." * 12, "third")
    case = recorded(*((name, 20, (6, 8)) for name in names), full=True)
    page = open_page(
        case.page("a_very_long_file_name_without_spaces" * 8, ("a note " * 40,)),
        viewport={"width": 360, "height": 740},
        is_mobile=True,
        has_touch=True,
    )
    page.locator("#layer-0 tbody button").first.click()
    page.locator("#layer-0 input[value=margins]").check()
    page.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    wider = page.evaluate("""() => [...document.querySelectorAll("body *")].filter(
        e => !e.closest(".wide, .tabs, .said, .map") && e.getBoundingClientRect().right > 360.5
    ).map(e => e.outerHTML)""")
    assert wider == []
    assert page.locator("#layer-0 .map").bounding_box()["width"] > 300


def test_print_has_every_layer_and_no_controls(open_page: Opener, case: Case) -> None:
    page = open_page(case.page(), color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert shown_panels(page) == [0, 1, 2]
    for hidden in ("[role=tablist]", "#layer-0 .controls", "#layer-1 .reading", "#layer-1 .both"):
        assert page.locator(hidden).is_hidden()
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"


def test_everything_has_a_name(open_page: Opener, case: Case) -> None:
    """Pictures, controls and groups say what they are to those who do not see them."""
    page = open_page(case.page())
    unnamed = page.evaluate("""() => [...document.querySelectorAll("img, input, button, [role]")].filter(e => {
        const named = id => document.getElementById(id)?.textContent.trim();
        return !(e.alt || e.getAttribute("aria-label") || named(e.getAttribute("aria-labelledby"))
            || e.textContent.trim() || e.closest("label")?.textContent.trim() || e.getAttribute("role") === "status");
    }).map(e => e.outerHTML)""")
    assert unnamed == []
    assert page.evaluate("document.documentElement.lang") == "en"
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    assert page.evaluate("document.getAnimations().length") == 0


def test_a_page_that_cannot_unpack_its_maps_says_so(browser: Any, case: Case, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(case.page(), encoding="utf-8")
    context = browser.new_context()
    context.add_init_script("delete window.DecompressionStream")
    page = context.new_page()
    page.goto(file.as_uri())
    page.locator("#broken").wait_for(state="visible")
    assert page.locator("#layer-0 table").is_visible()
    context.close()
