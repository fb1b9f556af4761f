"""`drconv visualize --report`: which pages are written, what they hold, and what they never replace."""

import json
import os
import sys
import zlib
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.drconv_cli.test_bad_input import assert_one_line
from tests.drconv_cli.test_commands import NET, Cli


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(NET)
    return f"{tmp_path / 'nets.py'}:Net"


def data_of(page: Path) -> Any:
    text = page.read_text(encoding="utf-8")
    start = text.index(">", text.index('<script type="application/json"')) + 1
    return json.loads(text[start : text.index("</script>", start)])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("statistics", ["default", "full"])
def test_a_page_holds_what_the_statistics_say(
    statistics: str, net: str, photo: Path, tmp_path: Path, run_cli: Cli
) -> None:
    out = tmp_path / "o"
    options = ("-m", net, "--size", 48, "-o", out, "--layers", "all", "--statistics", statistics)
    done = run_cli("visualize", photo, *options, "--report", "--json")
    assert done.code == 0, done.err
    (image,) = json.loads(done.out)["result"]["images"]
    assert image["page"] == str(out / "grace_hopper.html")
    assert "grace_hopper.html" in done.err
    shown = data_of(out / "grace_hopper.html")["layers"]
    assert [layer["name"] for layer in shown] == ["region", "deeper", "last"]
    for layer, expected in zip(shown, image["layers"], strict=True):
        regions = np.frombuffer(zlib.decompress(b64decode(layer["regions"])), np.uint8)
        assert [layer["rows"], layer["columns"]] == expected["grid"]
        counts = np.bincount(regions, minlength=expected["num_regions"])
        assert counts.tolist() == expected["region_positions"]
        margins = np.frombuffer(zlib.decompress(b64decode(layer["margins"])), "<u2") / 10_000
        for j, mean in enumerate(expected["region_margins"]):
            assert mean is None if not counts[j] else margins[regions == j].mean() == pytest.approx(mean, abs=1e-4)
        assert len(layer["texts"][0]) == (10 if statistics == "full" else 6)
    page = (out / "grace_hopper.html").read_text(encoding="utf-8")
    assert "regions show the architecture, not anything learned" not in page, "only where the weights are random"


def test_no_page_unless_asked_for(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    done = run_cli("visualize", photo, "-m", net, "--size", 32, "-o", tmp_path / "o", "--json")
    assert json.loads(done.out)["result"]["images"][0]["page"] is None
    assert names(tmp_path / "o") == ["grace_hopper.png", "statistics.json"]


def test_pages_without_pictures_and_of_images_of_one_name(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    other = tmp_path / "grace_hopper.png"
    Image.new("RGB", (40, 30), "red").save(other)
    out = tmp_path / "o"
    done = run_cli("visualize", photo, other, "-m", net, "--size", 32, "-o", out, "--report", "--figures", "none")
    assert done.code == 0, done.err
    pages = [f"{image.parent.name}-grace_hopper.html" for image in (photo, other)]
    assert names(out) == sorted([*pages, "images.csv", "statistics.json"])
    sizes = [data_of(out / name)["layers"][0]["columns"] for name in pages]
    assert sizes == [16, 22], "each of its own photo"


def test_an_existing_page_is_kept(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    out = tmp_path / "o"
    out.mkdir()
    (out / "grace_hopper.html").write_text("mine")
    command = ("visualize", photo, "-m", net, "--size", 32, "-o", out, "--report")
    assert_one_line(run_cli(*command), "grace_hopper.html", "use --force")
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [("grace_hopper.html", "mine")]
    assert run_cli(*command, "--force").code == 0
    assert data_of(out / "grace_hopper.html")


def test_a_photo_is_never_replaced_by_a_page(net: str, tmp_path: Path, run_cli: Cli) -> None:
    photo = tmp_path / "x.html"
    Image.new("RGB", (40, 30), "red").save(photo, format="PNG")
    before = photo.read_bytes()
    done = run_cli("visualize", photo, "-m", net, "--size", 32, "-o", tmp_path, "--report", "--force")
    assert_one_line(done, "x.html would replace the photo")
    assert photo.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows no such names")
@pytest.mark.parametrize(
    "name", [b"<script>alert(1)<", b"a\"b'c&d", b"two\nlines", b"bytes\xff\xfe", "猫 {{ 1 }}".encode()]
)
def test_a_page_of_a_hostile_name(name: bytes, net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    with Image.open(photo) as image:
        image.resize((40, 48)).save(tmp_path / "plain.png")
    odd = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name + b".png")))  # noqa: PTH118
    (tmp_path / "plain.png").rename(odd)
    done = run_cli("visualize", odd, "-m", net, "--size", 32, "-o", tmp_path / "o", "--report", "--figures", "none")
    assert done.code == 0, done.err
    page = (tmp_path / "o" / odd.with_suffix(".html").name).read_bytes()
    page.decode()
    assert b"<script>alert" not in page
    assert page.count(b"<script") == 2


def test_numbers_that_are_not_finite(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    out = tmp_path / "o"
    done = run_cli("visualize", photo, "-m", net.replace("Net", "nan"), "--size", 32, "-o", out, "--report")
    assert done.code == 0, done.err
    for layer in data_of(out / "grace_hopper.html")["layers"]:
        assert set(zlib.decompress(b64decode(layer["margins"]))) == {255}


def test_what_a_page_refuses_leaves_nothing_behind(
    net: str, photo: Path, tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drconv.viz.page.MOST_REGIONS", 2)
    done = run_cli("visualize", photo, "-m", net, "--size", 32, "-o", tmp_path / "o", "--report")
    assert_one_line(done, "a page holds", "at most 2 regions, got 3")
    assert not (tmp_path / "o").exists()
