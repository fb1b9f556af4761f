"""`drconv visualize --preview`: region maps in the terminal."""

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.color import Color
from rich.console import Console

from drconv.analysis import LayerStatistics, RegionStatistics
from drconv.viz import LoadedImage, map_thumbnail, photo_thumbnail, region_color
from drconv_cli.pictures import Measured
from drconv_cli.preview import Previews, preview_lines
from tests.drconv_cli.test_commands import NET, Cli


def measured(mask: np.ndarray, num_regions: int, shape: tuple[int, int] = (40, 60)) -> Measured:
    counts = np.bincount(mask.ravel(), minlength=num_regions)
    cosines = ((None,) * num_regions,) * num_regions
    shares = tuple((counts / mask.size).tolist())
    layer = LayerStatistics("a.b", mask.shape, tuple(counts.tolist()), shares, (None,) * num_regions, cosines)
    pixels = np.full((*shape, 3), 200, np.uint8)
    return Measured(LoadedImage(pixels, None, ()), RegionStatistics((layer,)), {"a.b": mask}, {})


def console(color: str | None, width: int = 80, height: int = 24) -> Console:
    return Console(file=StringIO(), force_terminal=True, color_system=color, width=width, height=height)


class Ascii(StringIO):
    encoding = "ascii"


MASK = np.array([[0, 0, 1], [2, 2, 1]])


def map_colors(lines: list, rows: int, across: int) -> np.ndarray:
    """Return the colours of the map's dots, `[2 * rows, across, 3]`."""
    found = np.zeros((2 * rows, across, 3), int)
    for y, line in enumerate(lines[1 : rows + 1]):
        spans = [span for span in line.spans if span.start >= across + 2]
        assert len(spans) == across
        for x, span in enumerate(spans):
            found[2 * y, x] = span.style.color.triplet
            found[2 * y + 1, x] = span.style.bgcolor.triplet
    return found


def test_the_map_is_beside_the_photo_in_the_regions_colours() -> None:
    lines = preview_lines("p.jpg", measured(MASK, 4), console("truecolor", 22))
    assert lines[0].plain == "p.jpg  a.b  2x3 posit…"
    rows, across = 4, 10  # 10 dots beside 10; 40x60 pixels make 7 dots high, rounded up to letters of two
    assert {line.plain for line in lines[1 : rows + 1]} == {"▀" * across + "  " + "▀" * across}
    expected = map_thumbnail(MASK, (2 * rows, across))
    colors = np.array([Color.from_rgb(*(round(255 * v) for v in region_color(j))).triplet for j in range(4)])
    np.testing.assert_array_equal(map_colors(lines, rows, across), colors[expected])
    assert lines[1].spans[0].style.color.triplet == (200, 200, 200)


def test_the_legend_has_number_and_share() -> None:
    lines = preview_lines("p.jpg", measured(MASK, 4), console("truecolor", 60))
    legend = "   0 33.3 %     1 33.3 %     2 33.3 %     3    0 %"
    assert legend in [line.plain for line in lines]
    assert lines[-2].plain == ""
    assert "not semantic segments" in lines[-1].plain


@pytest.mark.parametrize("color", ["truecolor", None])
def test_entries_of_the_legend_stand_below_each_other(color: str | None) -> None:
    lines = [line.plain for line in preview_lines("p.jpg", measured(MASK, 12), console(color, 70))]
    legend = [line for line in lines if " %" in line]
    assert len(legend) > 1
    assert max(map(len, legend)) - min(map(len, legend)) < 14, "no region is left alone on a line"
    ends = [{i for i, letter in enumerate(line) if letter == "%"} for line in legend]
    assert all(more <= ends[0] for more in ends)


@pytest.mark.parametrize("color", [None, "standard"])
def test_without_enough_colours_maps_are_made_of_numbers(color: str | None) -> None:
    mask = np.array([[0, 11], [40, 3]])
    lines = preview_lines("p.jpg", measured(mask, 41, (20, 20)), console(color, 12))
    plain = [line.plain for line in lines]
    assert plain[1:7] == ["000000bbbbbb"] * 3 + ["++++++333333"] * 3
    assert any(line.startswith("b=region 11: 25.0 %") for line in plain)
    assert not any("▀" in line for line in plain)


def test_256_colours_serve_as_long_as_they_tell_regions_apart() -> None:
    for count, blocks in ((8, True), (17, False)):
        lines = preview_lines("p.jpg", measured(MASK, count), console("256"))
        assert ("▀" in lines[1].plain) == blocks, count


def test_an_encoding_without_half_blocks() -> None:
    plain = Console(file=Ascii(), force_terminal=True, color_system="truecolor", width=40, height=24)
    assert "▀" not in preview_lines("p.jpg", measured(MASK, 3), plain)[1].plain


@pytest.mark.parametrize("shape", [(10, 1000), (1000, 10), (40, 60)])
@pytest.mark.parametrize("size", [(20, 10), (80, 24), (300, 100)])
@pytest.mark.parametrize("color", ["truecolor", None])
def test_it_fits_the_terminal(shape: tuple[int, int], size: tuple[int, int], color: str | None) -> None:
    lines = preview_lines("p" * 400, measured(MASK, 16, shape), console(color, *size))
    assert max(line.cell_len for line in lines) <= size[0]
    assert sum("▀" in line.plain for line in lines) <= max(4, size[1] - 8)


def test_positions_that_are_left_out_are_said() -> None:
    many = np.zeros((100, 150), int)
    assert "100x150 positions, " in preview_lines("p", measured(many, 2), console("truecolor"))[0].plain
    assert "of them shown" in preview_lines("p", measured(many, 2), console("truecolor"))[0].plain
    assert "shown" not in preview_lines("p", measured(MASK, 4), console("truecolor"))[0].plain


def test_thumbnails() -> None:
    np.testing.assert_array_equal(map_thumbnail(MASK, (1, 6)), [[2, 2, 2, 2, 1, 1]])
    pixels = np.arange(4, dtype=np.uint8).repeat(3).reshape(2, 2, 3) * 10
    np.testing.assert_array_equal(photo_thumbnail(pixels, (1, 1)), [[[15, 15, 15]]])


def test_stdout_has_only_data(photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    (tmp_path / "nets.py").write_text(NET)
    asked = ("visualize", photo, "-m", f"{tmp_path / 'nets.py'}:Net", "--size", 32, "--json", "--layers", "last")
    one = run_cli(*asked, "-o", tmp_path / "o")
    two = run_cli(*asked, "-o", tmp_path / "o", "--force", "--preview")
    assert two.code == 0, two.err
    assert two.out == one.out
    assert "grace_hopper.jpg  last  " in two.err
    assert "0: " in two.err, "no terminal, no colours"


def test_few_images_have_a_preview(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("drconv_cli.preview._MOST", 1)
    previews = Previews(True)
    for index in range(3):
        previews.add(index, f"{index}.jpg", measured(MASK, 3))
    previews.show()
    err = capsys.readouterr().err
    assert "0.jpg" in err
    assert "1.jpg" not in err
    assert "2 more images have no preview" in err
