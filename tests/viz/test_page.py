"""The interactive page as a file: what is in it, what must not be, and how large it can be."""

import json
import re
import subprocess
import sys
import zlib
from base64 import b64decode, b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from drconv.errors import ArgumentError, DrconvError
from drconv.viz import region_page
from drconv.viz.page.numbers import nearest_filters, share_text
from tests.viz.pages import HOSTILE, Case, recorded


class Parsed(HTMLParser):
    """Every element with its attributes and own text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        self.elements.append((f"/{tag}", {}, []))  # what follows is not the element's own

    def handle_data(self, data: str) -> None:
        if self.elements:
            self.elements[-1][2].append(data)

    def all(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, "".join(text)) for name, attributes, text in self.elements if name == tag]


def data_of(page: str) -> dict:
    (text,) = (text for attributes, text in Parsed(page).all("script") if attributes.get("id") == "data")
    return json.loads(text)


@pytest.fixture(scope="module")
def case() -> Case:
    return recorded(("first", 3, (6, 8)), ("second", 5, (3, 4)))


def test_maps_and_margins_are_kept_exactly_as_said(case: Case) -> None:
    for layer in data_of(case.page())["layers"]:
        grid = (layer["rows"], layer["columns"])
        regions = np.frombuffer(zlib.decompress(b64decode(layer["regions"])), np.uint8)
        margins = np.frombuffer(zlib.decompress(b64decode(layer["margins"])), "<u2")
        np.testing.assert_array_equal(regions.reshape(grid), case.masks[layer["name"]])
        np.testing.assert_array_equal(margins.reshape(grid), np.rint(case.margins[layer["name"]] * 10_000))


def test_unknown_margins_are_marked() -> None:
    scores = torch.zeros(1, 2, 1, 3)
    scores[0, 0, 0, 1] = float("nan")
    page = recorded(("a", 2, (1, 3)), scores={"a": scores}).page()
    (layer,) = data_of(page)["layers"]
    assert np.frombuffer(zlib.decompress(b64decode(layer["margins"])), "<u2").tolist() == [0, 65535, 0]
    assert "which have a region but no margin: 1." in page


def test_the_photo_is_the_pixels(case: Case) -> None:
    smooth = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (48, 1, 3))
    (photo,) = (attributes for attributes, _ in Parsed(replace(case, pixels=smooth).page()).all("img"))
    kind, _, code = str(photo["src"]).partition(",")
    assert kind == "data:image/jpeg;base64"
    shown = np.asarray(Image.open(BytesIO(b64decode(code))))
    assert np.abs(shown.astype(int) - smooth).max() <= 8
    assert (photo["width"], photo["height"]) == ("64", "48")
    assert photo["alt"]


def test_nothing_is_asked_of_the_network(case: Case) -> None:
    """No address but data: and anchors of the page itself, in attributes or in styles."""
    page = case.page(title="a", notes=("b",))
    for _, attributes, _ in Parsed(page).elements:
        for name in ("src", "href", "action", "poster", "srcset", "data", "background"):
            assert str(attributes.get(name, "data:")).startswith(("data:", "#")), attributes
        assert not any(name.startswith("on") for name in attributes), "handlers in attributes"
        assert "style" not in attributes, "the policy of the page forbids it"
    assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttpRequest|WebSocket|sendBeacon", page)


def test_only_our_own_script_and_style_may_run(case: Case) -> None:
    parsed = Parsed(case.page())
    (policy,) = (a["content"] for a, _ in parsed.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    scripts = [text for attributes, text in parsed.all("script") if "type" not in attributes]
    styles = [text for _, text in parsed.all("style")]
    for kind, (text,) in (("script-src", scripts), ("style-src", styles)):
        assert f"{kind} 'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" in policy
    assert "unsafe" not in policy


def test_hostile_texts_stay_texts(case: Case) -> None:
    (first, *_) = case.statistics.layers
    hostile = Case(
        case.pixels,
        replace(case.statistics, layers=(replace(first, name=HOSTILE),)),
        {HOSTILE: case.masks["first"]},
        {HOSTILE: case.margins["first"]},
    )
    page = hostile.page(HOSTILE, (HOSTILE,))
    page.encode()
    plain = Parsed(case.page())
    parsed = Parsed(page)
    shown = HOSTILE.replace("\n", " ").replace("\udc80", "�").replace("\x00", "�")
    assert [text for _, text in parsed.all("title")] == [shown]
    assert [text for _, text in parsed.all("h1")] == [shown]
    assert [text for _, text in parsed.all("h2")] == [shown]
    assert [text for attributes, text in parsed.all("p") if attributes.get("class") == "note"] == [shown]
    for tag in ("script", "img"):
        assert len(parsed.all(tag)) == len(plain.all(tag))
    assert data_of(page)["layers"][0]["name"] == shown
    assert "49" not in re.findall(r"\b49\b", "".join(text for _, text in parsed.all("h1")))


def test_the_table_has_every_region_and_number() -> None:
    case = recorded(("a", 3, (6, 8)), full=True)
    (layer,) = case.statistics.layers
    page = case.page()
    cells = [text for _, text in Parsed(page).all("td")]
    assert layer.shapes is not None
    assert layer.filters is not None
    rows = [cells[i : i + len(cells) // 3] for i in range(0, len(cells), len(cells) // 3)]
    for j, row in enumerate(rows):
        nearest = max((c, i) for i, c in enumerate(layer.filter_cosines[j]) if i != j and c is not None)
        assert row[:3] == [f"{100 * layer.region_share[j]:.2f} %", str(layer.region_positions[j]),
                           f"{layer.region_margins[j]:.4f}"]  # fmt: skip
        assert float(row[3]) == pytest.approx(layer.filter_norms[j], rel=1e-3)
        assert row[4:6] == [f"region {nearest[1]}", f"{nearest[0]:.4f}"]
        assert row[6] == str(layer.shapes.components[j])
        assert float(row[7]) == pytest.approx(layer.shapes.component_sizes[j], rel=1e-3)
        assert row[8] == str(layer.shapes.boundary_lengths[j])
        assert float(row[9]) == pytest.approx(layer.filters.effective_ranks[j], rel=1e-3)
    assert layer.verdict.removeprefix("a: ") in page


def test_neighbours_are_sorted_and_at_most_16() -> None:
    (layer,) = recorded(("a", 20, (6, 8))).statistics.layers
    for j, found in enumerate(nearest_filters(layer)):
        cosines = {i: c for i, c in enumerate(layer.filter_cosines[j]) if i != j}
        expected = sorted(cosines, key=cosines.__getitem__, reverse=True)[:16]
        assert [i for i, _ in found] == expected
        assert [text for _, text in found] == [f"{cosines[i]:.4f}" for i in expected]


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1e-6, "<0.01 %"), (0.1234567, "12.35 %"), (0.999999, ">99.99 %"), (1, "100.00 %")],
)
def test_shares_are_not_rounded_to_nothing_or_all(share: float, text: str) -> None:
    assert share_text(share) == text


def test_size_is_bounded() -> None:
    """Noise, which nothing compresses, takes 4 bytes a position and a photo as large as it may be."""
    case = recorded(("a", 2, (1, 1)))
    noise = np.random.default_rng(0)
    case = replace(case, pixels=noise.integers(0, 256, (3200, 40, 3), dtype=np.uint8))
    (photo,) = (attributes for attributes, _ in Parsed(case.page()).all("img"))
    assert (photo["width"], photo["height"]) == ("20", "1600")
    small = len(recorded(("a", 2, (1, 1))).page())
    (layer,) = recorded(("a", 256, (256, 256))).statistics.layers
    maps = {"a": noise.integers(0, 256, (256, 256))}, {"a": noise.random((256, 256))}
    pixels = np.zeros((8, 8, 3), np.uint8)
    large = len(region_page(pixels, replace(case.statistics, layers=(layer,)), maps[0], title="", margins=maps[1]))
    assert large < small + 4.01 * 256 * 256 + 256 * (16 * 15 + 1200)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "holds 1 to 64 layers, got 0"),
        ([(f"l{i}", 2, (1, 1)) for i in range(65)], "holds 1 to 64 layers, got 65"),
        ([("a", 257, (1, 1))], "at most 256 regions, got 257"),
        ([("a", 2, (1025, 1024)), ("b", 2, (1024, 1024))], "at most 2,097,152 positions in all layers, got 2,098,176"),
    ],
)
def test_what_is_too_much_is_refused(layers: list[tuple[str, int, tuple[int, int]]], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        recorded(*layers).page()


def test_maps_that_do_not_fit_are_refused(case: Case) -> None:
    with pytest.raises(ArgumentError, match="pixels must be uint8"):
        replace(case, pixels=np.zeros((4, 4), np.uint8)).page()
    with pytest.raises(ArgumentError, match="guided_masks must have every layer of the statistics, got none for 'sec"):
        replace(case, masks={"first": case.masks["first"]}).page()
    with pytest.raises(ArgumentError, match="must hold 0 to 2, got 0 to 3"):
        replace(case, masks=case.masks | {"first": case.masks["first"] + (case.masks["first"] == 2)}).page()
    with pytest.raises(ArgumentError, match=r"the margins of 'first' must be floats of shape \[6, 8\], got float32 of"):
        replace(case, margins=case.margins | {"first": case.margins["second"]}).page()


def test_without_the_template_engine_it_says_what_to_install(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "drconv.viz.page.template", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(DrconvError, match=r"there is no jinja2; pip install 'drconv\[viz\]'"):
        case.page()


def test_the_template_engine_is_loaded_only_for_a_page() -> None:
    code = "import sys, drconv.viz, drconv_cli.drawing; assert 'drconv.viz.page.template' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_same_input_same_page(case: Case) -> None:
    assert case.page() == case.page()
