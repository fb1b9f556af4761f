"""`drconv visualize` on many images: where they come from, what is written, and how processes share them."""

import csv
import json
import os
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drconv.errors import FileError
from drconv_cli.images import find_images, short_names
from tests.drconv_cli.test_bad_input import assert_one_line
from tests.drconv_cli.test_commands import NET, Cli
from tests.fresh import Fresh


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(NET)
    return f"{tmp_path / 'nets.py'}:Net"


@pytest.fixture
def photos(photo: Path, tmp_path: Path) -> Path:
    """Make a directory of three photos, one of them further down."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    with Image.open(photo) as whole:
        for index, name in enumerate(("b.jpg", "a.PNG", "more/c.jpg")):
            whole.crop((40 * index, 0, 40 * index + 300, 400)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_directories_patterns_and_lists(photos: Path, tmp_path: Path) -> None:
    a, b, c = photos / "a.PNG", photos / "b.jpg", photos / "more" / "c.jpg"
    assert find_images([str(photos)]) == [a, b, c]
    assert find_images([str(photos / "*.jpg")]) == [b]
    assert find_images([str(photos / "**" / "*.jpg")]) == [b, c]
    (tmp_path / "list.txt").write_text(f"{c}\n\n  {a}\n")
    assert find_images([f"@{tmp_path / 'list.txt'}"]) == [c, a]
    assert find_images([str(b), str(photos)]) == [b, a, c], "each once, where it is first named"
    assert find_images(["missing.jpg"]) == [Path("missing.jpg")], "said when it is read"


def test_a_list_as_other_systems_write_it(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa.jpg\r\nodd\xff.jpg\r\n")
    assert find_images([f"@{tmp_path / 'list.txt'}"]) == [Path("a.jpg"), Path(os.fsdecode(b"odd\xff.jpg"))]


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    odd = tmp_path / "photo[1].jpg"
    odd.touch()
    assert find_images([str(odd)]) == [odd]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("{0}/empty", "holds no image"),
        ("{0}/*.jpg", "no file matches the pattern"),
        ("@{0}/missing.txt", "cannot be read"),
        ("@{0}/blank.txt", "is empty"),
        ("@{0}/binary.txt", "is no text"),
        ("", "path is empty"),
        ("-", "goes alone"),
        ("{0}/" + 300 * "a", "File name too long"),
        ("{0}/" + 300 * "a" + "*", "File name too long"),
        ("@{0}/" + 300 * "a", "File name too long"),
    ],
)
def test_arguments_that_stand_for_nothing(argument: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "binary.txt").write_bytes(b"photo.jpg\nph\0to.jpg\n")
    with pytest.raises(FileError, match=message):
        find_images([argument.format(tmp_path)])


def test_a_few_images_have_pictures_rows_and_usage(net: str, photos: Path, tmp_path: Path, run_cli: Cli) -> None:
    out = tmp_path / "o"
    done = run_cli("visualize", photos, "-m", net, "--size", 32, "-o", out, "--json")
    assert done.code == 0, done.err
    written = ["a.png", "b.png", "c.png", "grid.png", "images.csv", "statistics.json", "usage.png"]
    assert sorted(p.name for p in out.iterdir()) == written
    result = json.loads(done.out)["result"]
    assert [Path(x["image"]).name for x in result["images"]] == ["a.PNG", "b.jpg", "c.jpg"]
    found = rows(out / "images.csv")
    for layer in result["usage"]["layers"]:
        assert layer["num_images"] == 3
        of_layer = [row for row in found if row["layer"] == layer["name"]]
        assert [int(row["index"]) for row in of_layer] == sorted(int(row["index"]) for row in of_layer)
        for region, positions in enumerate(layer["region_positions"]):
            assert positions == sum(int(row["positions"]) for row in of_layer if int(row["region"]) == region)


def test_many_images_are_only_counted(
    net: str, photos: Path, tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drconv_cli.commands.visualize.MOST_PICTURES", 2)
    out = tmp_path / "o"
    done = run_cli("visualize", photos, "-m", net, "--size", 32, "-o", out)
    assert sorted(p.name for p in out.iterdir()) == ["images.csv", "statistics.json", "usage.png"]
    assert "Use of regions over 3 images" in done.out
    result = json.loads((out / "statistics.json").read_text())["result"]
    assert result["images"] == []
    layer = result["usage"]["layers"][0]
    assert layer["num_images"] == 3
    # Filters are measured where they are shown, or asked for.
    assert set(layer["filter_norms"]) == {None}
    assert {row["filter norm"] for row in rows(out / "images.csv")} == {""}
    run_cli("visualize", photos, "-m", net, "--size", 32, "-o", tmp_path / "full", "--statistics", "full")
    full = json.loads((tmp_path / "full" / "statistics.json").read_text())["result"]["usage"]["layers"][0]
    assert all(norm > 0 for norm in full["filter_norms"])
    assert full["region_positions"] == layer["region_positions"]
    assert full["region_margins"] == pytest.approx(layer["region_margins"], abs=1e-6)
    done = run_cli("visualize", photos, "-m", net, "--size", 32, "-o", out, "--figures", "each", "--force")
    assert {"a.png", "b.png", "c.png"} < {p.name for p in out.iterdir()}


def test_full_statistics_draw_the_filters(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    done = run_cli("visualize", photo, "-m", net, "--size", 32, "-o", tmp_path / "o", "--statistics", "full")
    assert done.code == 0, done.err
    written = ["grace_hopper-filters.png", "grace_hopper.png", "statistics.json"]
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == written


def test_patterns_change_the_picture(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    for name, options in (("a", ()), ("b", ("--patterns",))):
        done = run_cli("visualize", photo, "-m", net, "--size", 32, "-o", tmp_path / name, *options)
        assert done.code == 0, done.err
    plain, hatched = ((tmp_path / name / "grace_hopper.png").read_bytes() for name in "ab")
    assert plain != hatched


def test_no_pictures(net: str, photos: Path, tmp_path: Path, run_cli: Cli) -> None:
    out = tmp_path / "o"
    run_cli("visualize", photos, "-m", net, "--size", 32, "-o", out, "--figures", "none")
    assert sorted(p.name for p in out.iterdir()) == ["images.csv", "statistics.json"]
    images = json.loads((out / "statistics.json").read_text())["result"]["images"]
    assert [image["figure"] for image in images] == [None] * 3


def test_an_image_named_usage_does_not_replace_the_picture_of_the_set(
    net: str, photos: Path, tmp_path: Path, run_cli: Cli
) -> None:
    (photos / "b.jpg").rename(photos / "usage.jpg")
    run_cli("visualize", photos, "-m", net, "--size", 32, "-o", tmp_path / "o")
    assert {"usage.png", "usage-2.png"} < {p.name for p in (tmp_path / "o").iterdir()}


def test_images_of_one_name_in_two_folders(net: str, tmp_path: Path, run_cli: Cli) -> None:
    """No picture takes the place of another, and each says which class it is of."""
    for kind, color in (("cat", "red"), ("dog", "blue")):
        (tmp_path / "classes" / kind).mkdir(parents=True)
        Image.new("RGB", (40, 30), color).save(tmp_path / "classes" / kind / "0.png")
    options = ("-m", net, "--size", 32, "--report", "--statistics", "full", "--preview", "--layers", "last")
    kept, again = tmp_path / "kept", tmp_path / "again"
    done = run_cli("visualize", tmp_path / "classes", *options, "--evidence", kept, "-o", tmp_path / "o")
    assert done.code == 0, done.err
    drawn = [f"{kind}-0{ending}" for kind in ("cat", "dog") for ending in (".png", "-filters.png", ".html")]
    found = {path.name for path in (tmp_path / "o").iterdir()}
    assert found == {*drawn, "grid.png", "usage.png", "images.csv", "statistics.json"}
    images = json.loads((tmp_path / "o" / "statistics.json").read_text())["result"]["images"]
    files = [(Path(image["image"]).parent.name, Path(image["figure"]).name) for image in images]
    assert files == [("cat", "cat-0.png"), ("dog", "dog-0.png")]
    for kind in ("cat", "dog"):
        assert f"<title>{kind}/0.png: " in (tmp_path / "o" / f"{kind}-0.html").read_text()
        assert f"{kind}/0.png  last  " in done.err
    assert run_cli("visualize", "--from", kept, "--report", "-o", again).code == 0
    assert {path.name for path in again.iterdir()} == found


def test_short_names_say_the_folder_only_where_it_tells() -> None:
    given = ["cat/0.png", "dog/0.jpg", "dog/1.png", "dog/1.jpg", "../2.png", "2.png", "3.png"]
    shown = ["cat/0.png", "dog/0.jpg", "1.png", "1.jpg", "2.png", "2.png", "3.png"]
    assert [name.as_posix() for name in short_names([Path(name) for name in given])] == shown


def test_what_cannot_be_read_is_left_out(net: str, photos: Path, tmp_path: Path, run_cli: Cli) -> None:
    (photos / "b.jpg").write_text("no image")
    done = run_cli("visualize", photos, "-m", net, "--size", 32, "-o", tmp_path / "o", "--json")
    assert done.code == 1
    assert "1 of 3 images could not be drawn" in done.err
    assert json.loads(done.out)["result"]["usage"]["layers"][0]["num_images"] == 2
    assert {row["index"] for row in rows(tmp_path / "o" / "images.csv")} == {"0", "2"}
    for name in ("a.PNG", "more/c.jpg"):
        (photos / name).write_text("no image")
    done = run_cli("visualize", photos, "-m", net, "-o", tmp_path / "p")
    assert done.code == 1
    assert "none of 3 images could be drawn" in done.err
    assert not list((tmp_path / "p").glob("*")), "nothing half made is left"


class Stdin:
    """An image on stdin."""

    def __init__(self, data: bytes, terminal: bool = False) -> None:
        self.buffer, self._terminal = BytesIO(data), terminal

    def isatty(self) -> bool:
        return self._terminal


def test_stdin(net: str, photo: Path, tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / name for name in ("temporary", "o", "kept")]
    temporary, output, kept = folders
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with Image.open(photo) as image:
        gray = BytesIO()
        # Of this one, something is said.
        Image.fromarray(np.asarray(image.convert("L"), np.uint16) << 8).save(gray, "PNG")
    monkeypatch.setattr("drconv_cli.images.sys.stdin", Stdin(gray.getvalue()))
    options = ("-m", net, "--size", 32, "--report", "--evidence", kept, "--preview", "--json")
    done = run_cli("visualize", "-", *options, "-o", output)
    assert done.code == 0, done.err
    assert sorted(p.name for p in output.iterdir()) == ["statistics.json", "stdin.html", "stdin.png"]
    assert json.loads(done.out)["result"]["images"][0]["image"] == "stdin"
    assert "\nstdin: 16-bit image" in f"\n{done.err}"
    (entry,) = json.loads((kept / "manifest.json").read_text())["images"]
    assert (entry["image"], entry["sha256"]) == ("stdin", sha256(gray.getvalue()).hexdigest())
    written = [file.read_bytes() for folder in (output, kept) for file in folder.rglob("*") if file.is_file()]
    assert not any(str(temporary).encode() in data for data in (*written, done.out.encode(), done.err.encode()))
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the image file is empty (0 bytes): stdin; "),
        (b"not a picture at all", "not an image of a known format, got stdin; "),
        (b"P5 60000 60000 255 ", "got stdin, which declares"),
        (b"P5 9 9 255 ", "damaged or unreadable, got stdin ("),
    ],
    ids=["empty", "text", "large", "damaged"],
)
def test_errors_call_the_image_on_stdin_so(
    data: bytes, message: str, net: str, tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drconv_cli.images.sys.stdin", Stdin(data))
    assert_one_line(run_cli("visualize", "-", "-m", net, "-o", tmp_path / "o"), message)


def test_a_terminal_is_no_image(net: str, tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drconv_cli.images.sys.stdin", Stdin(b"", terminal=True))
    assert_one_line(run_cli("visualize", "-", "-m", net, "-o", tmp_path / "p"), "got a terminal")


def test_fail_dead(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    # One position can have only one of two regions.
    one = ("visualize", photo, "-m", net, "--size", 2, "-o", tmp_path / "o", "--force", "--layers", "last")
    assert run_cli(*one).code == 0
    done = run_cli(*one, "--fail-dead")
    assert done.code == 1
    assert "--fail-dead: regions that occur on no image: last [" in done.err
    assert (tmp_path / "o" / "statistics.json").exists(), "written all the same"
    alive = run_cli("visualize", photo, "-m", net, "-o", tmp_path / "p", "--layers", "last", "--fail-dead")
    assert alive.code == 0, alive.err


def test_processes_share_a_set_and_find_the_same(net: str, photos: Path, tmp_path: Path, fresh: Fresh) -> None:
    for count, name in ((1, "one"), (2, "two")):
        fresh.team(count, "drconv_cli", "visualize", photos, "-m", net, "--size", 64, "-o", tmp_path / name)
    for name in ("images.csv", "statistics.json"):
        one, two = ((tmp_path / folder / name).read_text() for folder in ("one", "two"))
        assert one.replace("/one/", "/two/") == two
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == sorted(p.name for p in (tmp_path / "one").iterdir())


def test_images_whose_last_layers_differ_share_a_grid(net: str, tmp_path: Path, run_cli: Cli) -> None:
    Image.new("RGB", (64, 2), "red").save(tmp_path / "wide.png")
    Image.new("RGB", (2, 2), "red").save(tmp_path / "tiny.png")
    files = (tmp_path / "wide.png", tmp_path / "tiny.png")
    done = run_cli("visualize", *files, "-m", net, "--size", 2, "-o", tmp_path / "o", "--json")
    assert done.code == 0, done.err
    images = {layer["name"]: layer["num_images"] for layer in json.loads(done.out)["result"]["usage"]["layers"]}
    assert images == {"region": 1, "last": 2}
    assert (tmp_path / "o" / "grid.png").exists()
