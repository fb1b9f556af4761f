"""Every bad input gives one clear line and exit code 1, or a usage message and 2; never a traceback or half a file."""

import os
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from drconv.models import create_model
from tests.drconv_cli.test_commands import NET

Cli = Callable[..., "object"]


@pytest.fixture
def net(tmp_path: Path) -> str:
    path = tmp_path / "nets.py"
    path.write_text(NET)
    return f"{path}:Net"


def bomb() -> bytes:
    """A PNG of a few bytes that declares 60000 x 60000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def write_image(kind: str, path: Path) -> Path:
    """Write an odd image and return where."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    path = path / f"{kind}.{'jpg' if kind in ('cmyk', 'exif-rotated') else 'gif' if kind == 'animated' else 'png'}"
    if kind == "cmyk":
        rgb.convert("CMYK").save(path)
    elif kind == "16-bit":
        Image.fromarray(rng.integers(0, 65536, (48, 64), dtype=np.uint16)).save(path)
    elif kind == "palette":
        rgb.convert("P").save(path)
    elif kind == "alpha":
        rgba = rgb.convert("RGBA")
        rgba.putalpha(100)
        rgba.save(path)
    elif kind == "animated":
        rgb.save(path, save_all=True, append_images=[rgb.rotate(90), rgb.rotate(180)])
    elif kind == "exif-rotated":
        exif = Image.Exif()
        exif[0x0112] = 6
        rgb.save(path, exif=exif)
    elif kind == "1x1":
        Image.new("RGB", (1, 1), "red").save(path)
    return path


@pytest.mark.parametrize("kind", ["cmyk", "16-bit", "palette", "alpha", "animated", "exif-rotated", "1x1"])
def test_odd_images_give_the_right_picture(kind: str, net: str, tmp_path: Path, run_cli: Cli) -> None:
    import json

    image = write_image(kind, tmp_path)
    done = run_cli("visualize", image, "-m", net, "--size", 48, "-o", tmp_path / "o", "--json")
    assert done.code == 0, done.err
    size = json.loads(done.out)["result"]["images"][0]["size"]
    assert size == {"exif-rotated": [64, 48], "1x1": [48, 48]}.get(kind, [48, 64])
    with Image.open(tmp_path / "o" / f"{kind}.png") as figure:
        figure.load()
    assert ("first of 3 frames" in done.err) == (kind == "animated")


def assert_one_line(done: object, *words: str) -> None:
    assert done.code == 1, done.err
    last = done.err.splitlines()[-1]
    assert last.startswith("drconv: error: "), done.err
    for word in words:
        assert word in last, last
    assert "Traceback" not in done.err
    assert done.out == ""


IMAGES = {
    "missing": (None, "does not exist"),
    "empty": (b"", "empty"),
    "truncated": ("half", "damaged"),
    "text": (b"not a picture at all\n" * 20, "not an image"),
    "bomb": (bomb(), "at most"),
    "directory": ("mkdir", "directory"),
    "20000x3": ("long", "--size"),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_bad_images(kind: str, net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    content, word = IMAGES[kind]
    image = tmp_path / "image.png"
    if content == "mkdir":
        image.mkdir()
    elif content == "half":
        image.write_bytes(photo.read_bytes()[:20_000])
    elif content == "long":
        Image.new("RGB", (20000, 3), "blue").save(image)
    elif isinstance(content, bytes):
        image.write_bytes(content)
    done = run_cli("visualize", image, "-m", net, "-o", tmp_path / "o")
    assert_one_line(done, word, "image.png")
    assert not (tmp_path / "o").exists()


def test_a_long_image_is_drawn_at_a_size_that_fits(net: str, tmp_path: Path, run_cli: Cli) -> None:
    image = tmp_path / "long.png"
    Image.new("RGB", (20000, 3), "blue").save(image)
    assert run_cli("visualize", image, "-m", net, "--size", 4, "-o", tmp_path / "o").code == 0


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["another-model", "truncated", "malicious", "missing"])
@pytest.mark.parametrize("command", ["flops", "profile", "visualize"])
def test_bad_checkpoints(command: str, kind: str, net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    path = tmp_path / "weights.pt"
    if kind == "another-model":
        path = tmp_path / "weights.safetensors"
        save_file(create_model("shufflenet_v2_x0_5").state_dict(), path)
    elif kind == "truncated":
        torch.save(create_model("shufflenet_v2_x0_5").state_dict(), path)
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "malicious":
        torch.save({"a": Malicious(tmp_path / "run")}, path)
    target = [photo, "-m", net, "-o", tmp_path / "o"] if command == "visualize" else [net]
    done = run_cli(command, *target, "--checkpoint", path)
    words = {"another-model": "does not fit Net", "malicious": "refused", "missing": "does not exist"}
    assert_one_line(done, path.name, words.get(kind, ""))
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["flops", "shuflenet_v2_x0_5"], ["unknown model 'shuflenet_v2_x0_5'; did you mean"]),
        (["flops", "{net}", "--device", "cdua"], ["no device 'cdua' here; did you mean cuda? available: auto, cpu"]),
        (["profile", "{net}", "--backend", "eagr"], ["unknown backend 'eagr'; did you mean eager"]),
        (
            ["visualize", "{photo}", "-m", "{net}", "--layers", "regoin"],
            ["unknown layer 'regoin'; did you mean region"],
        ),
        (["visualize", "{photo}", "-m", "shufflenet_v2_x0_5"], ["no layer with regions", "--convert"]),
        (["profile", "{file}:plain"], ["no dynamic layer", "--convert"]),
        (["visualize", "{photo}", "-m", "{file}:five"], ["channels must be 1 (luminance) or 3 (RGB), got channels=5"]),
        (["flops", "{net}", "--input", "4x32x32"], ["Net failed on an input of 1x4x32x32", "channels"]),
        (["flops", "{net}", "--size", "9999999"], ["Net failed on an input of 1x3x9999999x9999999", "memory"]),
        (["profile", "{net}", "--size", "9999999"], ["Net failed on an input of 1x3x9999999x9999999", "memory"]),
        (["flops", "{file}:Nett"], ["unknown factory", "did you mean Net"]),
        (["flops", "no/such.py:Net"], ["no file 'no/such.py'"]),
        (["flops", "nosuchpackage:Net"], ["No module named 'nosuchpackage'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0] in ("flops", "profile") else "",
)
def test_bad_names(arguments: list[str], words: list[str], net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    filled = [a.format(net=net, photo=photo, file=net.rpartition(":")[0]) for a in arguments]
    if filled[0] == "visualize":
        filled += ["-o", str(tmp_path / "o")]
    assert_one_line(run_cli(*filled), *words)
    assert not (tmp_path / "o").exists()


def test_cuda_that_is_not_there(net: str, run_cli: Cli) -> None:
    assert_one_line(run_cli("flops", net, "--device", "cuda:63"), "no device 'cuda:63' here", "available: auto, cpu")


def test_no_regions_from_a_factory(tmp_path: Path, run_cli: Cli) -> None:
    path = tmp_path / "zero.py"
    path.write_text("from drconv import DRConv2d\ndef zero(): return DRConv2d(3, 4, 1, num_regions=0)\n")
    assert_one_line(run_cli("flops", f"{path}:zero"), "num_regions must be an integer of at least 1, got num_regions=0")


@pytest.mark.parametrize(
    "arguments",
    [
        ["flops", "--size", "0"],
        ["flops", "--size", "12x"],
        ["flops", "--size", "ax3"],
        ["flops", "--size", "32", "--input", "3x32x32"],
        ["flops", "--input", "32x32"],
        ["flops", "--json", "--format", "csv"],
        ["flops", "--format", "jsn"],
        ["flops", "-o", "counts.xyz"],
        ["visualize"],
        ["visualize", "x.png", "--size", "0"],
        ["visualize", "x.png", "--figure-format", "bmp"],
        ["profile", "--rounds", "0"],
        ["profile", "--batch-size", "0"],
        ["flops", "--size", "1" * 5000],
        ["visualize", "x.png", "--seed", "99999999999999999999"],
        ["profile", "--threads", "99999999999"],
        ["no-such-command"],
        ["flops", "--no-such-option"],
    ],
    ids=lambda arguments: " ".join(arguments)[:60],
)
def test_wrong_usage_exits_with_2(arguments: list[str], run_cli: Cli) -> None:
    done = run_cli(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert "Usage:" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("existing", ["statistics.json", "grace_hopper.png"])
def test_existing_pictures_are_kept_unless_forced(
    existing: str, net: str, photo: Path, tmp_path: Path, run_cli: Cli
) -> None:
    out = tmp_path / "o"
    out.mkdir()
    (out / existing).write_text("mine")
    done = run_cli("visualize", photo, "-m", net, "--size", 32, "-o", out)
    assert_one_line(done, existing, "use --force")
    assert [(p.name, p.read_text()) for p in out.iterdir()] == [(existing, "mine")]
    assert run_cli("visualize", photo, "-m", net, "--size", 32, "-o", out, "--force").code == 0
    assert sorted(p.name for p in out.iterdir()) == ["grace_hopper.png", "statistics.json"]


def test_labels_that_do_not_fit(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "square.png")
    Image.new("RGB", (64, 75)).save(tmp_path / "colours.png")
    Image.new("L", (64, 75), 255).save(tmp_path / "ignored.png")
    draw = ("visualize", photo, "-m", net, "--size", 64, "-o", tmp_path / "o", "--labels")
    assert_one_line(run_cli(*draw, tmp_path / "square.png"), "aspect of the photo", "64x64", "75x64")
    assert_one_line(run_cli(*draw, tmp_path / "colours.png"), "one channel", "RGB")
    assert_one_line(run_cli(*draw, tmp_path / "ignored.png"), "hold no class")
    assert_one_line(run_cli(*draw, tmp_path), f"the map of classes for {photo}", "does not exist", "grace_hopper.png")
    Image.new("RGB", (30, 40)).save(tmp_path / "other.png")
    two = (
        "visualize",
        photo,
        tmp_path / "other.png",
        "-m",
        net,
        "-o",
        tmp_path / "o",
        "--labels",
        tmp_path / "square.png",
    )
    assert_one_line(run_cli(*two), "must be a directory", "2 images")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("name", ["x.png", "statistics.json"])
def test_a_photo_is_never_replaced(name: str, net: str, tmp_path: Path, run_cli: Cli) -> None:
    photo = tmp_path / name
    Image.new("RGB", (40, 30), "red").save(photo, format="PNG")
    before = photo.read_bytes()
    done = run_cli("visualize", photo, "-m", net, "--size", 32, "-o", tmp_path, "--force")
    assert_one_line(done, f"{name} would replace the photo")
    assert photo.read_bytes() == before


def test_outputs_that_cannot_be_written(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert_one_line(run_cli("flops", net, "-o", file / "counts.json"), "cannot write", "counts.json")
    assert_one_line(run_cli("flops", net, "--format", "json", "-o", tmp_path), "is a directory")
    done = run_cli("visualize", photo, "-m", net, "--size", 32, "-o", file)
    assert_one_line(done, "cannot write")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_directory_without_permission(net: str, tmp_path: Path, run_cli: Cli) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert_one_line(run_cli("flops", net, "-o", closed / "counts.json"), "cannot write", "ermission denied")


def test_a_write_that_fails_midway_leaves_nothing(
    net: str, tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "counts.json"
    monkeypatch.setattr("drconv_cli.output.os.fdopen", _full_disk)
    assert_one_line(run_cli("flops", net, "-o", path), "No space left on device")
    assert list(path.parent.iterdir()) == []


def _full_disk(handle: int, mode: str) -> object:
    os.close(handle)
    raise OSError(28, "No space left on device")


def test_special_files_and_links(net: str, tmp_path: Path, run_cli: Cli) -> None:
    pipe, link, dangling = tmp_path / "pipe.json", tmp_path / "link.json", tmp_path / "dangling.json"
    os.mkfifo(pipe)
    assert_one_line(run_cli("flops", net, "-o", pipe, "--force"), "no regular file")
    dangling.symlink_to(tmp_path / "nowhere.json")
    assert_one_line(run_cli("flops", net, "-o", dangling), "no regular file")
    target = tmp_path / "target.json"
    target.write_text("old")
    link.symlink_to(target)
    assert_one_line(run_cli("flops", net, "-o", link), "exists and is kept")
    assert run_cli("flops", net, "-o", link, "--force").code == 0
    assert link.is_symlink()
    assert target.read_text().startswith("{")


def test_long_names(net: str, tmp_path: Path, run_cli: Cli) -> None:
    assert run_cli("flops", net, "-o", tmp_path / ("a" * 250 + ".json")).code == 0
    assert_one_line(run_cli("flops", net, "-o", tmp_path / ("a" * 300 + ".json")), "cannot write", "too long")
    assert_one_line(run_cli("flops", net, "--checkpoint", "a" * 300), "cannot be read")


def test_an_output_that_cannot_be_written_is_found_before_the_work(
    net: str, tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("drconv.analysis.profile_model", lambda *a, **k: 1 / 0)
    assert_one_line(run_cli("profile", net, "-o", tmp_path / "file" / "x.json"), "is no directory")


def test_an_image_name_that_is_no_text(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    image = tmp_path / os.fsdecode(b"bad\xff\nname.jpg")
    image.write_bytes(photo.read_bytes())
    done = run_cli("visualize", image, "-m", net, "--size", 32, "-o", tmp_path / "o", "--figure-format", "svg")
    assert done.code == 0
    assert (tmp_path / "o" / "statistics.json").exists()


def test_a_model_without_parameters(tmp_path: Path, photo: Path, run_cli: Cli) -> None:
    path = tmp_path / "nothing.py"
    path.write_text("from torch import nn\nnothing = nn.ReLU()\ndef leaving(): return Leaving()\n"
                    "class Leaving(nn.Module):\n    def forward(self, x): raise SystemExit(0)\n")  # fmt: skip
    assert_one_line(run_cli("visualize", photo, "-m", f"{path}:nothing", "-o", tmp_path / "o"), "no layer with regions")
    assert_one_line(run_cli("flops", f"{path}:leaving"), "Leaving failed")


def test_verbose_shows_the_traceback(net: str, run_cli: Cli) -> None:
    from drconv.errors import UnknownNameError

    with pytest.raises(UnknownNameError):
        run_cli("--verbose", "flops", "no_such_model")


def test_a_bug_of_ours_is_not_hidden(net: str, run_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drconv.analysis.count_flops", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_cli("flops", net)


def test_two_photos_of_one_name_do_not_share_labels(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    photos, labels = [tmp_path / folder / "a.png" for folder in ("one", "two")], tmp_path / "labels"
    for path in photos:
        path.parent.mkdir()
        path.write_bytes(photo.read_bytes())
    labels.mkdir()
    done = run_cli("visualize", *photos, "-m", net, "--labels", labels, "-o", tmp_path / "o")
    assert_one_line(done, str(photos[0]), str(photos[1]), "its own name")


def test_names_of_files_cannot_steer_the_terminal(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    odd = tmp_path / "a\x1b[31m\u202eb\nc.gif"
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    frames[0].save(odd, save_all=True, append_images=frames[1:])
    done = run_cli("visualize", odd, "-m", net, "--size", 32, "-o", tmp_path / "o", "--figures", "none")
    assert done.code == 0, done.err
    for text in (done.out, done.err):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert r"a\x1b[31m\u202eb" in text
    assert r"b\nc.gif" in done.out, "a row of the table stays one line"


_LONG = [
    "visualize {0} --frames",
    "visualize {1} --labels {0}",
    "visualize --from {0}",
    "compare {0} b -i a.png",
    "train {0}",
]


@pytest.mark.parametrize("command", _LONG)
def test_names_that_are_too_long(command: str, net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    options = () if "--from" in command else ("-m", net)
    output = () if "compare" in command else ("-o", tmp_path / "o")
    done = run_cli(*command.format("a" * 300, photo).split(), *options, *output)
    assert_one_line(done, "File name too long")


@pytest.mark.parametrize(
    ("command", "existing", "message"),
    [
        (["visualize", "no.jpg"], "no.png", "the image file does not exist, got no.jpg"),
        (["visualize", "no.jpg", "nor.jpg"], "usage.png", "none of 2 images could be drawn; the first: the image file"),
        (["visualize", "no.gif", "--frames"], "frames.csv", "the image file does not exist, got no.gif"),
        (["train", "nowhere"], "log.jsonl", "the data folder does not exist or is no folder, got nowhere"),
    ],
)
def test_a_missing_input_is_told_before_what_is_in_the_way_of_outputs(
    command: list[str], existing: str, message: str, tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / existing).write_text("mine")
    done = run_cli(*command, "-o", "o")
    assert_one_line(done, message)
    assert done.err.count("\n") == 1, "and before any work"
    assert (tmp_path / "o" / existing).read_text() == "mine"
