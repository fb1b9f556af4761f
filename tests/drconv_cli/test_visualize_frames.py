"""`drconv visualize --frames`: clips in every form, what is written, and what is refused."""

import csv
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

from tests.drconv_cli.test_bad_input import assert_one_line
from tests.drconv_cli.test_commands import NET, Cli

WRITTEN = ["frames.csv", "pan-stability.png", "pan.gif", "statistics.json"]


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(NET)
    return f"{tmp_path / 'nets.py'}:Net"


@pytest.fixture
def pan(photo: Path, tmp_path: Path) -> Path:
    """Make a folder of twelve frames whose numbers have no leading zeros."""
    folder = tmp_path / "pan"
    folder.mkdir()
    with Image.open(photo) as whole:
        for index in range(12):
            whole.crop((8 * index, 0, 8 * index + 300, 200)).resize((48, 32)).save(folder / f"f{index}.png")
    return folder


def animated(pan: Path, path: Path) -> Path:
    frames = [Image.open(pan / f"f{index}.png") for index in range(12)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50, lossless=True)
    return path


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "frames.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_of_frames(net: str, pan: Path, tmp_path: Path, run_cli: Cli) -> None:
    out = tmp_path / "o"
    done = run_cli("visualize", pan, "--frames", "-m", net, "--size", 32, "-o", out, "--json")
    assert done.code == 0, done.err
    assert sorted(path.name for path in out.iterdir()) == WRITTEN
    data = json.loads(done.out)
    assert json.loads((out / "statistics.json").read_text()) == data
    stability = data["result"]["stability"]
    assert stability["times"] == [index / 10 for index in range(12)]
    assert [layer["name"] for layer in stability["layers"]] == ["region", "last"], "the last layer at each map size"
    assert data["result"]["layer"] == "region", "at the first map size"
    assert data["result"]["usage"]["layers"][0]["num_images"] == 12
    found = rows(out)
    assert [int(row["frame"]) for row in found] == [index for index in range(12) for _ in range(2)]
    for layer in stability["layers"]:
        own = [row for row in found if row["layer"] == layer["name"]]
        assert [row["stability"] for row in own] == ["", *map(str, layer["stability"][1:])]
        shares = [[float(row[f"share_{j}"]) for j in range(layer["num_regions"])] for row in own]
        np.testing.assert_allclose(np.sum(shares, 1), 1)
        chance = [np.dot(a, b) for a, b in itertools.pairwise(shares)]
        np.testing.assert_allclose([float(row["chance"]) for row in own[1:]], chance)
    with Image.open(out / "pan.gif") as gif:
        assert (gif.n_frames, gif.info["duration"]) == (12, 100)


def test_stability_is_that_of_the_maps_of_single_images(net: str, pan: Path, tmp_path: Path, run_cli: Cli) -> None:
    out = tmp_path / "o"
    run_cli("visualize", pan, "--frames", "-m", net, "--size", 32, "-o", out, "--max-frames", 2, "--layers", "last")
    import torch

    from drconv import record_regions
    from drconv.models import load_model
    from drconv.viz import load_image

    torch.manual_seed(0)
    model = load_model(net)
    masks, written = [], rows(out)
    for name, row in zip(("f0.png", "f1.png"), written, strict=True):
        with torch.inference_mode(), record_regions(model) as recording:
            model(load_image(pan / name, 32).tensor)
        masks.append(recording["last"].guided_mask[0])
        probabilities = np.sort(softmax(recording["last"].guided_feature[0].double().numpy(), axis=0), axis=0)
        assert float(row["margin"]) == pytest.approx((probabilities[-1] - probabilities[-2]).mean(), rel=1e-4)
        shares = [float(row[f"share_{j}"]) for j in range(len(probabilities))]
        assert shares == pytest.approx([float((masks[-1] == j).float().mean()) for j in range(len(shares))])
    assert float(written[1]["stability"]) == pytest.approx(float((masks[0] == masks[1]).float().mean()))


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animation_every_third_frame(suffix: str, net: str, pan: Path, tmp_path: Path, run_cli: Cli) -> None:
    clip, out = animated(pan, tmp_path / f"pan.{suffix}"), tmp_path / "o"
    options = ("--frames", "--every", 3, "--max-frames", 3, "--layers", "deeper")
    done = run_cli("visualize", clip, *options, "-m", net, "--size", 32, "-o", out)
    assert done.code == 0, done.err
    assert "the clip goes on" in done.err
    found = rows(out)
    assert [(row["frame"], float(row["time"]), row["layer"]) for row in found] == [
        ("0", 0, "deeper"), ("3", pytest.approx(0.15), "deeper"), ("6", pytest.approx(0.3), "deeper"),
    ]  # fmt: skip
    with Image.open(out / "pan.gif") as gif:
        assert (gif.n_frames, gif.info["duration"]) == (3, 150)


def test_a_video_in_and_out(net: str, pan: Path, tmp_path: Path, run_cli: Cli) -> None:
    pytest.importorskip("av", reason="PyAV (extra viz) is not installed")
    options = ("--frames", "-m", net, "--size", 32, "--video", "mp4", "--fps", 25)
    assert run_cli("visualize", pan, *options, "-o", tmp_path / "o").code == 0
    clip = tmp_path / "o" / "pan.mp4"
    done = run_cli("visualize", clip, *options[:-2], "-o", tmp_path / "p")
    assert done.code == 0, done.err
    times = [float(row["time"]) for row in rows(tmp_path / "p") if row["layer"] == "last"]
    assert times == pytest.approx([0.04 * index for index in range(12)], abs=1e-3)
    clip.write_bytes(clip.read_bytes()[:3000])
    done = run_cli("visualize", clip, *options[:-2], "-o", tmp_path / "q")
    assert_one_line(done, "the video cannot be read")
    assert not list((tmp_path / "q").glob("*"))


def test_a_fresh_network_is_calibrated_on_the_first_frame(net: str, pan: Path, tmp_path: Path, run_cli: Cli) -> None:
    options = ("-m", net.replace("Net", "Normed"), "--size", 32, "--max-frames", 1, "--frames")
    done = run_cli("visualize", pan, *options, "-o", tmp_path / "o", "--json")
    assert "BatchNorm statistics of the first frame" in done.err
    assert "one frame only" in done.err
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["frames.csv", "pan.gif", "statistics.json"]
    photo = run_cli("visualize", pan / "f0.png", *options[:4], "-o", tmp_path / "p", "--json")
    (frame,) = json.loads(done.out)["result"]["usage"]["layers"]
    ((image,),) = [x["layers"] for x in json.loads(photo.out)["result"]["images"]]
    assert frame["region_positions"] == image["region_positions"]


@pytest.mark.parametrize("spoil", ["damaged", "other size"])
def test_a_bad_frame_in_the_middle_leaves_nothing(
    spoil: str, net: str, pan: Path, tmp_path: Path, run_cli: Cli
) -> None:
    if spoil == "damaged":
        (pan / "f5.png").write_bytes((pan / "f5.png").read_bytes()[:900])
        message = "damaged or unreadable"
    else:
        Image.new("RGB", (64, 32)).save(pan / "f5.png")
        message = "must have one size, got 32x64 at frame 5 after 32x48"
    done = run_cli("visualize", pan, "--frames", "-m", net, "--size", 32, "-o", tmp_path / "o")
    assert_one_line(done, message)
    assert not list((tmp_path / "o").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{0}", "{0}", "--frames"], "takes one clip"),
        (["{0}/missing.mp4", "--frames"], "does not exist"),
        (["{0}/empty", "--frames"], "holds no image"),
        (["{0}/deep", "--frames"], "only further down"),
        (["{0}/none.gif", "--frames"], "is empty"),
        (["{0}/text.txt", "--frames"], ""),
        (["{0}/pan", "--every", "2"], "--every is for clips, got no --frames"),
        (["{0}/pan", "--video", "mp4"], "--video is for clips"),
        (["{0}/pan", "--frames", "--labels", "{0}/pan"], "--labels is for images, got --frames"),
        (["{0}/pan", "--frames", "--statistics", "full"], "--statistics full is for images"),
        (["{0}/pan/f0.gif", "--frames", "-o", "{0}/pan", "--force"], "would replace the clip"),
    ],
)
def test_what_is_refused(arguments: list[str], message: str, net: str, pan: Path, tmp_path: Path, run_cli: Cli) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "deep" / "er" / "a.png")
    (tmp_path / "none.gif").touch()
    (tmp_path / "text.txt").write_text("no clip")
    Image.new("RGB", (48, 32)).save(pan / "f0.gif")
    filled = [text.format(tmp_path) for text in arguments]
    where = [] if "-o" in filled else ["-o", tmp_path / "o"]
    assert_one_line(run_cli("visualize", *filled, "-m", net, "--size", 32, *where), message)
    assert not list((tmp_path / "o").glob("*"))


def test_existing_files_are_kept(net: str, pan: Path, tmp_path: Path, run_cli: Cli) -> None:
    options = ("--frames", "-m", net, "--size", 32, "--max-frames", 2, "-o", tmp_path / "o")
    assert run_cli("visualize", pan, *options).code == 0
    before = (tmp_path / "o" / "pan.gif").read_bytes()
    assert_one_line(run_cli("visualize", pan, *options), "exists and is kept")
    assert run_cli("visualize", pan, *options, "--force").code == 0
    assert (tmp_path / "o" / "pan.gif").read_bytes() == before


def test_processes_of_torchrun_are_refused(
    net: str, pan: Path, tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert_one_line(
        run_cli("visualize", pan, "--frames", "-m", net, "-o", tmp_path / "o"), "got --frames under torchrun"
    )


def test_a_pipe_is_refused_and_not_waited_for(net: str, tmp_path: Path, run_cli: Cli) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert_one_line(run_cli("visualize", tmp_path / "pipe", "-m", net, "--frames", "-o", tmp_path / "o"), "a pipe")
