"""`drconv train` and `drconv evaluate` as a user meets them."""

import json
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import sleep, time_ns

import jsonschema
import numpy as np
import pytest
from PIL import Image

from drconv.training import RunFiles
from drconv_cli.trained import draw_curves
from tests.conftest import Outcome
from tests.fresh import Fresh, Running

Cli = Callable[..., Outcome]
MODEL = ("--model", "drconv_shufflenet_v2_x0_5", "--set", "num_regions=2", "--set", "filter_generator=basis")
SMALL = ("mosaic", *MODEL, "--image-size", 32, "--train-size", 16, "--validation-size", 12, "--batch-size", 8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two classes of eight images each."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (folder / kind).mkdir()
        for number in range(8):
            Image.fromarray(random.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(folder / kind / f"{number}.png")
    return folder


def test_one_class_is_not_enough(run_cli: Cli, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures / "cat", tmp_path / "data" / "cat")
    done = run_cli("train", tmp_path / "data", *MODEL, "-o", tmp_path / "run")
    assert done.code == 1
    assert done.err.endswith("data has one class, cat; a classifier needs at least two\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_train_evaluate_and_use_the_weights(run_cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run_cli("train", *SMALL, "--epochs", 2, "-o", out, "--ema", 0.5, "--save-dtype", "bfloat16", "--json")
    assert done.code == 0, done.err
    assert "epoch 2 of 2: loss" in done.err
    assert "the 4 steps are over before the warm-up of 200; --warmup shortens it" in done.err
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoint.safetensors",
        "curves.png",
        "log.jsonl",
        "weights.safetensors",
    ]
    data = json.loads(done.out)
    jsonschema.validate(data, json.loads(run_cli("schema", "train").out))
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert log == data["result"]["epochs"]
    assert [len(record["regions"]) for record in log] == [16, 16]
    assert Image.open(out / "curves.png").size == (1440, 864)
    weights = out / "weights.safetensors"
    evaluated = run_cli("evaluate", weights, "mosaic", "--validation-size", 12, "--per-class", "--json")
    assert evaluated.code == 0, evaluated.err
    found = json.loads(evaluated.out)
    jsonschema.validate(found, json.loads(run_cli("schema", "evaluate").out))
    assert found["result"]["top1"]["images"] == 12
    assert found["result"]["model"] == MODEL[1]
    low, high = found["result"]["top1"]["interval"]
    assert low <= found["result"]["top1"]["share"] <= high
    # The checkpoint of training can be looked at, too.
    counted = run_cli("flops", "--checkpoint", out / "checkpoint.safetensors", "--json")
    assert json.loads(counted.out)["result"]["input_size"] == [3, 32, 32]
    # What is there is kept, and what is done stays done.
    again = run_cli("train", *SMALL, "--epochs", 2, "-o", out)
    assert (again.code, "exists and is kept; use --resume to go on" in again.err) == (1, True)
    before = weights.read_bytes()
    resumed = run_cli("train", *SMALL, "--epochs", 2, "-o", out, "--ema", 0.5, "--save-dtype", "bfloat16", "--resume")
    assert resumed.code == 0
    assert weights.read_bytes() == before
    other = run_cli("train", *SMALL, "--epochs", 3, "-o", out, "--ema", 0.5, "--resume")
    assert (other.code, "other options: epochs is 2 there and 3 here" in other.err) == (1, True)
    changed = run_cli("train", "mosaic", "--model", "shufflenet_v2_x0_5", "--image-size", 32, "-o", out, "--resume")
    assert (changed.code, "is of another model: drconv_shufflenet_v2_x0_5" in changed.err) == (1, True)


def test_dry_run_writes_nothing(run_cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run_cli("train", *SMALL, "-o", out, "--dry-run", "--recipe", "dyconv_resnet", "--json")
    assert done.code == 0, done.err
    data = json.loads(done.out)
    jsonschema.validate(data, json.loads(run_cli("schema", "train").out))
    assert data["result"]["plan"]["steps"] == 2 * 100
    assert data["result"]["plan"]["optimizer"] == "sgd"
    assert not out.exists()


def test_dry_run_tells_what_applies(run_cli: Cli, pictures: Path, tmp_path: Path) -> None:
    dry = ("--image-size", 32, "--batch-size", 4, "-o", tmp_path / "run", "--dry-run", "--json")

    def plan(*arguments: object) -> dict[str, object]:
        done = run_cli("train", *arguments, *dry)
        assert done.code == 0, done.err
        return json.loads(done.out)["result"]["plan"]

    regions = plan("mosaic", *MODEL)
    idle = {"momentum", "nesterov", "milestones", "step factor", "temperature", "temperature epochs"}
    assert not idle & set(regions)
    assert regions["augment"] == "none"
    experts = plan(pictures, "--model", "dyconv_resnet10", "--epochs", 6, "--optimizer", "sgd", "--schedule", "step")
    assert idle < set(experts)
    assert (experts["temperature"], experts["temperature epochs"]) == ([30, 1], 3)
    assert experts["augment"] == "standard"
    assert plan(pictures, *MODEL, "--augment", "light")["augment"] == "light"


def test_what_convert_did_is_said(run_cli: Cli, tmp_path: Path) -> None:
    conversions = ("stage2@1x1=drconv2d:num_regions=2", "stage3@depthwise=drconv2d:filter_generator=basis")
    asked = [word for text in conversions for word in ("--convert", text)]
    model = ("--model", "shufflenet_v2_x0_5", *asked)
    done = run_cli("train", "mosaic", *model, "--image-size", 32, "-o", tmp_path / "run", "--dry-run")
    assert done.code == 0, done.err
    assert done.err.splitlines() == [
        f"--convert {conversions[0]!r}: 9 of 9 layers became DRConv2d; outputs start equal",
        f"--convert {conversions[1]!r}: 9 of 9 layers became DRConv2d; outputs start equal",
    ]


def test_a_loss_that_is_not_finite(run_cli: Cli, tmp_path: Path) -> None:
    done = run_cli("train", *SMALL, "-o", tmp_path / "run", "--lr", 1e30, "--warmup", 0, "--clip", 0)
    assert done.code == 1
    line = done.err.splitlines()[-1]
    assert line.startswith("drconv: error: numbers stopped being finite in step")
    assert "is the output of stage2.0.branch" in line
    assert "e+29), gradient clipping" in line
    assert not (tmp_path / "run" / "weights.safetensors").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_image_is_named(run_cli: Cli, pictures: Path, tmp_path: Path, workers: int) -> None:
    folder = tmp_path / "pictures"
    subprocess.run(["cp", "-r", pictures, folder], check=True)
    for path in (folder / "dog").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    arguments = ("--image-size", 32, "--batch-size", 4, "--augment", "none", "--workers", workers)
    done = run_cli("train", folder, *MODEL, *arguments, "-o", tmp_path / "run")
    assert done.code == 1
    line = done.err.splitlines()[-1]
    assert line.startswith("drconv: error:")
    assert f"{folder}/dog/" in line
    assert "Traceback" not in done.err
    assert not (tmp_path / "run").exists(), "nothing to keep came of it"


def test_a_log_of_an_older_run_goes_with_it(run_cli: Cli, pictures: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "run"
    shutil.copytree(pictures, folder)
    for path in (folder / "dog").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    out.mkdir()
    (out / "log.jsonl").write_text("{}\n")
    arguments = ("--image-size", 32, "--batch-size", 14, "--augment", "none", "-o", out, "--force")
    assert run_cli("train", folder, *MODEL, *arguments).code == 1
    assert list(out.iterdir()) == []


def test_weights_for_other_classes(run_cli: Cli, pictures: Path, tmp_path: Path) -> None:
    arguments = ("--image-size", 32, "--batch-size", 4, "--augment", "none", "--epochs", 1)
    done = run_cli("train", pictures, *MODEL, *arguments, "-o", tmp_path / "run")
    assert done.code == 0, done.err
    found = run_cli("evaluate", tmp_path / "run" / "weights.safetensors", "mosaic")
    assert found.code == 1
    assert "was trained for 2 classes and mosaic has 26 others, first 'cat' and" in found.err


def test_weights_of_a_network_of_ones_own(
    run_cli: Cli, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are judged at the size they were trained at, however the network is written, and are not replaced."""
    shutil.copy(Path(__file__).parents[1] / "training" / "tiny.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pictures, "猫")  # whose letter the figure's font lacks
    warnings.filterwarnings("error", "Glyph")
    arguments = ("--image-size", 32, "--batch-size", 4, "--augment", "none", "--epochs", 1)
    train = ("train", "猫", "--model", "tiny.py:make", *arguments, "-o", "run")
    done = run_cli(*train, "--json")
    assert done.code == 0, done.err
    logged = json.loads(done.out)["result"]
    weights = tmp_path / "run" / "weights.safetensors"
    refused = run_cli("evaluate", weights, "猫")
    assert (refused.code, "name it yourself: --model tiny.py:make" in refused.err) == (1, True)
    for name in ("tiny.py:make", "./tiny.py:make"):
        found = json.loads(run_cli("evaluate", weights, "猫", "--model", name, "--json").out)
        assert found["arguments"]["image_size"] == 32
        assert found["result"]["loss"] == pytest.approx(logged["epochs"][0]["validation"]["loss"], rel=1e-6)
        assert found["result"]["top1"]["share"] == logged["top1"]
    before = weights.read_bytes()
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    again = run_cli(*train, "--resume")
    assert again.code == 1
    assert "exists and is kept, and there is no checkpoint.safetensors beside it" in again.err
    assert weights.read_bytes() == before


def test_a_picture_that_cannot_be_written_costs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor does it hide why training has stopped."""
    files = RunFiles(tmp_path)
    files.curves.mkdir()
    part = {"loss": 2.0, "top1": 0.1}
    record = {"epoch": 1, "learning_rate": 0.1, "train": part, "validation": part, "regions": []}
    draw_curves([record], files, "net on data")
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--set", "num_regions"), 2, "KEY=VALUE"),
        (("--set", "num_classes=3"), 2, "comes from the data"),
        (("--temperature", "30"), 2, "FIRST:LAST"),
        (("--resume", "--force"), 2, "do not go together"),
        (("--lr", "-1"), 1, "lr must be a number above 0"),
        (("--recipe", "dyconv"), 1, "unknown recipe 'dyconv'"),
        (("--precision", "float16", "--device", "cpu"), 1, "float16 trains on cuda alone"),
        (("--batch-size", "13000"), 1, "got 13000 of 12000 images; take a smaller one (--batch-size)"),
        (("--set", "num_region=2"), 1, "num_region"),
        (("--model", "nothing"), 1, "unknown model 'nothing'"),
        (("--model", "x.safetensors"), 1, "training starts from random weights"),
        (("--model", "shufflenet_v2_x0_5", "--guide-supervision", "1"), 1, "needs layers with guides"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], code: int, message: str, run_cli: Cli, tmp_path: Path) -> None:
    done = run_cli("train", "mosaic", "-o", tmp_path / "run", *arguments)
    assert done.code == code
    assert message in " ".join(done.err.replace("│", " ").split())
    assert not (tmp_path / "run").exists()


def test_guide_supervision_needs_region_maps(run_cli: Cli, pictures: Path, tmp_path: Path) -> None:
    done = run_cli("train", pictures, "-o", tmp_path / "run", "--guide-supervision", 1, "--batch-size", 4)
    assert (done.code, "needs data with true region maps" in done.err) == (1, True)


def start(folder: Path, fresh: Fresh) -> Running:
    """Start four epochs of two steps, with a checkpoint after each step, from where the folder is."""
    options = ("--epochs", 4, "--checkpoint-every", 1, "--resume", "-o", folder)
    return fresh.module("drconv_cli", "train", *SMALL, *options)


def send(number: int, run: Running, checkpoint: Path, checkpoints: int) -> str:
    """Wait until so many checkpoints were written, send a signal, and return what the run said."""
    seen: set[int] = set()
    while len(seen) < checkpoints:
        assert run.poll() is None
        if checkpoint.exists():
            seen.add(checkpoint.stat().st_mtime_ns)
        sleep(0.01)
    run.send_signal(number)
    return run.communicate()[1]


@pytest.mark.slow
def test_killed_then_terminated_and_resumed_ends_with_the_same_bits(tmp_path: Path, fresh: Fresh) -> None:
    whole, broken = start(tmp_path / "whole", fresh), start(tmp_path / "broken", fresh)
    checkpoint, weights = (tmp_path / "broken" / f"{name}.safetensors" for name in ("checkpoint", "weights"))
    after = Random(time_ns()).randrange(1, 4)
    send(signal.SIGKILL, broken, checkpoint, after)
    assert broken.returncode == -signal.SIGKILL
    again = start(tmp_path / "broken", fresh)
    # The checkpoint that is gone on from is the first that is seen.
    said = send(signal.SIGTERM, again, checkpoint, 2)
    assert again.returncode == 1, said
    assert "going on from" in said
    assert "SIGTERM: finishing the step" in said
    assert "the same command with --resume goes on from there" in said
    assert not weights.exists()
    last = start(tmp_path / "broken", fresh)
    assert "going on from" in last.communicate()[1]
    assert whole.communicate()[1]
    assert (whole.returncode, last.returncode) == (0, 0)
    assert weights.read_bytes() == (tmp_path / "whole" / "weights.safetensors").read_bytes(), f"killed after {after}"


@pytest.mark.slow
def test_two_processes_write_and_speak_as_one(tmp_path: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launch = [sys.executable, *launcher, "-m", "drconv_cli"]
    arguments = ("train", *SMALL, "--epochs", 1, "-o", tmp_path / "run", "--json")
    done = subprocess.run([*launch, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch 1 of 1") == 1
    assert json.loads(done.stdout)["result"]["epochs"][0]["validation"]["images"] == 12
