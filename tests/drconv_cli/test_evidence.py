"""`drconv visualize --evidence` keeps, and `--from` draws again without the model."""

import json
import os
from pathlib import Path

from tests.drconv_cli.test_bad_input import assert_one_line
from tests.drconv_cli.test_commands import Cli
from tests.drconv_cli.test_visualize_sets import net, photos  # noqa: F401  (fixtures)
from tests.fresh import Fresh


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder; where statistics name pictures, without the name of the folder."""
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    if "statistics.json" in found:
        found["statistics.json"] = found["statistics.json"].replace(f"/{folder.name}/".encode(), b"/")
    return found


def test_a_set_is_drawn_again_and_is_the_same(net: str, photos: Path, tmp_path: Path, run_cli: Cli) -> None:  # noqa: F811
    (photos / "bad.jpg").write_text("no image")
    kept = ("--evidence", tmp_path / "e", "--statistics", "full", "--layers", "all", "--report")
    first = run_cli("visualize", photos, "-m", net, "--size", 32, "-o", tmp_path / "one", *kept)
    assert first.code == 1
    assert "1 of 4 images could not be drawn" in first.err
    for path in photos.rglob("*"):
        path.unlink() if path.is_file() else None
    Path(net.rpartition(":")[0]).unlink()
    again = run_cli("visualize", "--from", tmp_path / "e", "-o", tmp_path / "two", "--report")
    assert (again.code, again.out) == (first.code, first.out)
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert {"a.png", "a-filters.png", "a.html", "grid.png", "usage.png", "images.csv", "statistics.json"} < set(one)
    assert two == one
    for name, data in contents(tmp_path / "e").items():
        if name.startswith("figures/"):
            assert (tmp_path / "one" / name.removeprefix("figures/")).read_bytes() == data
    manifest = json.loads((tmp_path / "e" / "manifest.json").read_text())
    assert [Path(image["image"]).name for image in manifest["images"]] == ["a.PNG", "b.jpg", "bad.jpg", "c.jpg"]
    assert manifest["arguments"]["size"] == 32


def test_one_photo_in_another_format(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:  # noqa: F811
    first = run_cli("visualize", photo, "-m", net, "--size", 32, "-o", tmp_path / "o", "--evidence", tmp_path / "e")
    assert first.code == 0, first.err
    assert f"wrote {tmp_path / 'e'}" in first.err
    again = run_cli("visualize", "--from", tmp_path / "e", "-o", tmp_path / "p", "--figure-format", "svg", "--json")
    assert again.code == 0, again.err
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["grace_hopper.svg", "statistics.json"]
    assert json.loads(again.out)["arguments"]["model"] == net


def test_evidence_is_refused_before_any_work(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:  # noqa: F811
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    asked = ("visualize", photo, "-m", net, "--evidence", tmp_path / "mine")
    assert_one_line(run_cli(*asked, "-o", tmp_path / "o"), "exists and is kept")
    assert_one_line(run_cli(*asked, "-o", tmp_path / "o", "--force"), "not even with --force")
    inside = ("visualize", photo, "-m", net, "--evidence", tmp_path / "e", "-o", tmp_path / "e" / "o")
    assert_one_line(run_cli(*inside), "--output must lie outside")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "nets.py"]
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_nothing_is_left_when_no_image_can_be_drawn(net: str, tmp_path: Path, run_cli: Cli) -> None:  # noqa: F811
    (tmp_path / "bad.jpg").write_text("no image")
    done = run_cli("visualize", tmp_path / "bad.jpg", "-m", net, "-o", tmp_path / "o", "--evidence", tmp_path / "e")
    assert done.code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jpg", "nets.py"]


def test_from_takes_neither_images_nor_a_model(tmp_path: Path, run_cli: Cli) -> None:
    for more in (["photo.jpg"], ["-m", "x"], ["--size", "100"], ["--evidence", "e"], ["--statistics", "full"]):
        done = run_cli("visualize", "--from", tmp_path, *more)
        assert done.code == 2
        assert "do not go together" in done.err
    assert run_cli("visualize").code == 2


def test_foreign_folders_are_refused_in_one_line(tmp_path: Path, run_cli: Cli) -> None:
    assert_one_line(run_cli("visualize", "--from", tmp_path / "none", "-o", tmp_path / "o"), "must be a directory")
    assert_one_line(run_cli("visualize", "--from", tmp_path, "-o", tmp_path / "o"), "no evidence folder")
    (tmp_path / "manifest.json").write_bytes(os.urandom(100))
    assert_one_line(run_cli("visualize", "--from", tmp_path, "-o", tmp_path / "o"), "cannot read")


def test_processes_keep_one_folder_together(net: str, photos: Path, tmp_path: Path, fresh: Fresh) -> None:  # noqa: F811
    def run(name: str, count: int) -> dict[str, bytes]:
        asked = ("-m", net, "--size", 32, "-o", tmp_path / f"o{name}", "--evidence", tmp_path / name)
        fresh.team(count, "drconv_cli", "visualize", photos, *asked)
        # An .npz holds the time, and the manifest its SHA-256.
        return {k: v for k, v in contents(tmp_path / name).items() if k.startswith("images/") and not k.endswith("npz")}

    one = run("one", 1)
    assert run("two", 2) == one
    assert len(one) == 3 * (2 + 2)
    assert not list(tmp_path.glob(".drconv*"))


def test_a_folder_is_not_drawn_into_itself(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:  # noqa: F811
    options = ("-m", net, "--size", 32, "-o", tmp_path / "o", "--evidence", tmp_path / "e", "--figures", "none")
    assert run_cli("visualize", photo, *options).code == 0
    before = contents(tmp_path / "e")
    done = run_cli("visualize", "--from", tmp_path / "e", "-o", tmp_path / "e", "--force")
    assert_one_line(done, "--output must lie outside")
    assert contents(tmp_path / "e") == before
