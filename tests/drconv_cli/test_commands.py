"""The commands from the outside: data, formats, files, exit codes."""

import csv
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from drconv.analysis import record_regions
from drconv.models import create_model, list_models, load_model
from drconv.version import __version__
from drconv.viz import load_image

NET = """
import torch
from torch import nn
from drconv import DRConv2d

class Net(nn.Module):
    def __init__(self, channels=3):
        super().__init__()
        self.first = nn.Conv2d(channels, 8, 3, 2, 1)
        self.region = DRConv2d(8, 8, 3, padding=1, num_regions=3)
        self.deeper = DRConv2d(8, 8, 3, 2, 1, num_regions=3)
        self.last = DRConv2d(8, 4, 1, num_regions=2)
    def forward(self, x):
        return self.last(self.deeper(self.region(self.first(x).relu()).relu()).relu())

def trained():
    net = Normed()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.fill_(0.3)
    return net
class Normed(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), DRConv2d(8, 8, 1, num_regions=3))
def chatty():
    print("building")
    class Chatty(Net):
        def forward(self, x):
            print("running")
            return super().forward(x)
    return Chatty()
def double(): return Net().double()
def gray(): return Net(1)
def five(): return Net(5)
def plain(): return nn.Conv2d(3, 4, 1)
def nan():
    net = Net()
    nn.init.constant_(net.first.weight, float("nan"))
    return net
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    path = tmp_path / "nets.py"
    path.write_text(NET)
    return f"{path}:Net"


Cli = Callable[..., "object"]


def test_flops_json_of_the_default_model(run_cli: Cli) -> None:
    done = run_cli("flops", "--json")
    data = json.loads(done.out)
    assert done.code == 0
    assert list(data) == ["schema", "command", "version", "environment", "arguments", "result", "warnings"]
    assert data["arguments"]["model"] == "drconv_shufflenet_v2_x0_5"
    assert "using drconv_shufflenet_v2_x0_5" in done.err
    assert (data["result"]["madds"], data["result"]["params"]) == (46_363_168, 5_519_752)
    layer = next(x for x in data["result"]["layers"] if x["type"] == "DRConv2d")
    assert list(layer["stages"]) == ["pool", "generator", "guide", "convolution"]
    assert all(type(x[k]) is int for x in data["result"]["layers"] for k in ("madds", "executed", "params"))


@pytest.mark.parametrize(
    ("name", "madds", "params"),
    [
        ("shufflenet_v2_x0_5", 40_476_448, 1_366_792),
        ("shufflenet_v2_x1_0", 145_814_296, 2_279_760),
        ("drconv_shufflenet_v2_x0_5_released", 50_104_864, 2_293_792),
    ],
)
def test_flops_json_of_named_models(name: str, madds: int, params: int, run_cli: Cli) -> None:
    result = json.loads(run_cli("flops", name, "--json").out)["result"]
    assert (result["madds"], result["params"]) == (madds, params)


def test_flops_of_a_file_with_other_channels_and_size(net: str, run_cli: Cli) -> None:
    small = json.loads(run_cli("flops", net, "--size", "16x24", "--json").out)
    assert small["arguments"]["input_size"] == [3, 16, 24]

    def first_conv(data: dict[str, object]) -> dict[str, int]:
        return next(layer for layer in data["result"]["layers"] if layer["type"] == "Conv2d")

    first = first_conv(small)
    assert first["madds"] == 8 * 12 * 8 * 3 * 9
    gray = json.loads(run_cli("flops", net.replace("Net", "gray"), "--input", "1x16x24", "--json").out)
    assert first_conv(gray)["madds"] == first["madds"] // 3


def test_formats_on_stdout(net: str, run_cli: Cli) -> None:
    table = run_cli("flops", net).out
    assert table.startswith("MAdds and parameters for one 3x224x224 image")
    rows = list(csv.DictReader(StringIO(run_cli("flops", net, "--format", "csv").out)))
    assert rows[-1]["layer"] == "total"
    for column in ("theory", "executed", "params"):
        assert int(rows[-1][column]) == sum(int(r[column]) for r in rows[:-1] if not r["stage"])
    assert "| layer | type |" in run_cli("flops", net, "--format", "markdown").out


@pytest.mark.parametrize(("suffix", "start"), [("json", "{"), ("csv", "layer,"), ("md", "**MAdds"), ("txt", "MAdds")])
def test_output_takes_its_format_from_the_suffix(
    suffix: str, start: str, net: str, tmp_path: Path, run_cli: Cli
) -> None:
    path = tmp_path / "new" / f"counts.{suffix}"
    done = run_cli("flops", net, "-o", path)
    assert (done.code, done.out) == (0, "")
    assert path.read_text().startswith(start)
    assert f"wrote {path}" in done.err
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_existing_output_is_kept_unless_forced(net: str, tmp_path: Path, run_cli: Cli) -> None:
    path = tmp_path / "counts.json"
    path.write_text("mine")
    refused = run_cli("flops", net, "-o", path)
    assert refused.code == 1
    assert refused.err == f"drconv: error: {path} exists and is kept; use --force to replace it, or another name\n"
    assert path.read_text() == "mine"
    assert run_cli("flops", net, "-o", path, "--force").code == 0
    assert json.loads(path.read_text())["command"] == "flops"


def test_profile_json_is_complete(net: str, run_cli: Cli) -> None:
    done = run_cli("profile", net, "--size", "32", "-b", "2", "--rounds", "2", "--warmup", "0", "--json")
    data = json.loads(done.out)
    assert done.code == 0
    targets = data["result"]["targets"]
    assert [t["name"] for t in targets] == ["region", "deeper", "last", "network"]
    assert [c["candidate"] for c in targets[0]["candidates"]] == ["conv2d", "conv2d", "native", "eager", "naive"]
    assert data["arguments"]["input_shape"] == [2, 3, 32, 32]
    assert data["environment"]["threads"] >= 1


def test_profile_with_threads(net: str, run_cli: Cli) -> None:
    before = torch.get_num_threads()
    try:
        done = run_cli("profile", net, "--size", "16", "--rounds", "1", "--warmup", "0", "--threads", "1", "--json")
        assert json.loads(done.out)["environment"]["threads"] == 1
    finally:
        torch.set_num_threads(before)


def test_visualize_writes_a_picture_and_exactly_the_envelope(
    net: str, photo: Path, tmp_path: Path, run_cli: Cli
) -> None:
    out = tmp_path / "regions"
    done = run_cli("visualize", photo, "-m", net, "--size", 64, "-o", out, "--json")
    assert done.code == 0
    assert sorted(p.name for p in out.iterdir()) == ["grace_hopper.png", "statistics.json"]
    assert (out / "statistics.json").read_text() == done.out
    data = json.loads(done.out)
    (image,) = data["result"]["images"]
    assert image["size"] == [75, 64]
    # The last layer at each map size: `region` alone has 38 x 32, `last` comes after `deeper` at 19 x 16.
    assert [(x["name"], x["grid"]) for x in image["layers"]] == [("region", [38, 32]), ("last", [19, 16])]
    assert all(sum(x["region_positions"]) == x["grid"][0] * x["grid"][1] for x in image["layers"])
    assert "Net with weights as Net made them (seed 0)" in done.err
    assert "weights as Net made them (seed 0)" in data["warnings"][0]
    with Image.open(out / "grace_hopper.png") as figure:
        assert figure.width > 1000


def test_visualize_full_statistics_and_labels(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    classes = Image.new("L", (64, 75), 3)
    classes.putpalette([index * 7 % 256 for index in range(3 * 256)])  # as VOC has it: indices count, not colours
    classes.paste(255, (0, 0, 64, 10))
    classes.paste(7, (0, 40, 64, 75))
    classes.save(labels / "grace_hopper.png")
    options = ("-m", net, "--size", 64, "-o", tmp_path / "o", "--force", "--statistics", "full", "--labels")
    found = [
        json.loads(run_cli("visualize", photo, *options, path, "--json").out)["result"]["images"]
        for path in (labels, labels / "grace_hopper.png")
    ]
    assert found[0] == found[1]
    for layer in found[0][0]["layers"]:
        assert layer["labels"]["classes"] == [3, 7]
        assert sum(map(sum, layer["labels"]["table"])) == 64 * 65
        assert layer["shapes"]["boundary_share"] >= 0
        assert len(layer["filters"]["effective_ranks"]) == layer["num_regions"]
    assert found[0][0]["layers"][1]["agreement"] is not None
    assert "with the labels: NMI " in run_cli("visualize", photo, *options, labels).out


def test_visualize_is_repeatable_and_seeded(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    def positions(name: str, seed: int) -> object:
        done = run_cli("visualize", photo, "-m", net, "--size", 32, "-o", tmp_path / name, "--seed", seed, "--json")
        return json.loads(done.out)["result"]["images"][0]["layers"]

    assert positions("a", 0) == positions("b", 0)
    assert positions("c", 1) != positions("b2", 0)


def test_visualize_says_that_the_weights_of_the_zoo_are_random(photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    done = run_cli("visualize", photo, "-m", "drconv_shufflenet_v2_x0_5", "--size", 64, "-o", tmp_path / "o", "--json")
    line = "random weights (seed 0), BatchNorm statistics of the first image: regions show the architecture"
    assert done.err.count(line) == 1
    assert "random weights (seed 0)" in json.loads(done.out)["warnings"][0]


def test_visualize_without_a_model_takes_the_weights_that_ship(photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    done = run_cli("visualize", photo, "--size", 64, "-o", tmp_path / "o", "--json")
    assert done.err.startswith("no model named, so --model demo: drconv_shufflenet_v2_demo with the weights that ship")
    assert done.err.count("its guides were supervised with known region maps") == 1
    data = json.loads(done.out)
    assert (data["arguments"]["model"], data["arguments"]["checkpoint"]) == ("demo", None)
    assert "supervised with known region maps, which is not in the paper" in data["warnings"][0]
    assert not any("random" in warning or "BatchNorm" in warning for warning in data["warnings"])
    named = run_cli("visualize", photo, "-m", "demo", "--size", 64, "-o", tmp_path / "p", "--json")
    assert json.loads(named.out)["result"]["images"][0]["layers"] == data["result"]["images"][0]["layers"]
    assert "no model named" not in named.err


@pytest.mark.parametrize("command", ["flops", "profile"])
def test_counting_and_timing_keep_their_default(command: str, run_cli: Cli) -> None:
    done = run_cli(command, *(["--dry-run"] if command == "profile" else []), "--json")
    assert json.loads(done.out)["arguments"]["model"] == "drconv_shufflenet_v2_x0_5"


def test_visualize_leaves_the_statistics_of_a_trained_factory_alone(
    net: str, photo: Path, tmp_path: Path, run_cli: Cli
) -> None:
    fresh = run_cli("visualize", photo, "-m", net.replace("Net", "Normed"), "--size", 32, "-o", tmp_path / "a")
    assert "BatchNorm statistics of the first image" in fresh.err
    spec = net.replace("Net", "trained")
    done = run_cli("visualize", photo, "-m", spec, "--size", 32, "-o", tmp_path / "b", "--json")
    assert "BatchNorm" not in done.err
    torch.manual_seed(0)
    model = load_model(spec)
    with torch.no_grad(), record_regions(model) as recording:
        model(load_image(photo, 32).tensor)
    expected = recording.layers[0].guided_mask.flatten().bincount(minlength=3).tolist()
    assert json.loads(done.out)["result"]["images"][0]["layers"][0]["region_positions"] == expected


def test_what_a_model_prints_does_not_reach_stdout(net: str, run_cli: Cli) -> None:
    done = run_cli("flops", net.replace("Net", "chatty"), "--size", 32, "--json")
    json.loads(done.out)
    assert "building" in done.err
    assert "running" in done.err


@pytest.mark.parametrize("command", [["flops"], ["profile", "--rounds", "1", "--warmup", "0"]], ids=lambda c: c[0])
def test_a_model_in_double_precision(command: list[str], net: str, run_cli: Cli) -> None:
    done = run_cli(*command, net.replace("Net", "double"), "--size", 16, "--json")
    assert done.code == 0, done.err


def test_visualize_with_trained_weights_says_so(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    weights = tmp_path / "weights.safetensors"
    save_file(load_model(net).state_dict(), weights)
    done = run_cli("visualize", photo, "-m", net, "--checkpoint", weights, "--size", 32, "-o", tmp_path / "o", "--json")
    assert done.code == 0
    assert "random" not in done.err
    assert json.loads(done.out)["arguments"]["checkpoint"] == str(weights)


@pytest.mark.parametrize("figure_format", ["svg", "pdf"])
def test_visualize_other_figure_formats(
    figure_format: str, net: str, photo: Path, tmp_path: Path, run_cli: Cli
) -> None:
    done = run_cli("visualize", photo, "-m", net, "--size", 32, "-o", tmp_path / "o", "--figure-format", figure_format)
    assert done.code == 0
    start = (tmp_path / "o" / f"grace_hopper.{figure_format}").read_bytes()[:5]
    assert start == {"svg": b"<?xml", "pdf": b"%PDF-"}[figure_format]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["all"], ["region", "deeper", "last"]),
        (["deeper"], ["deeper"]),
        (["*e*", "last"], ["region", "deeper", "last"]),
    ],
)
def test_visualize_chosen_layers(
    patterns: list[str], names: list[str], net: str, photo: Path, tmp_path: Path, run_cli: Cli
) -> None:
    options = [option for pattern in patterns for option in ("--layers", pattern)]
    done = run_cli("visualize", photo, "-m", net, "--size", 32, "-o", tmp_path / "o", "--json", *options)
    assert [x["name"] for x in json.loads(done.out)["result"]["images"][0]["layers"]] == names


def test_visualize_several_images_of_one_name_and_a_bad_one(
    net: str, photo: Path, tmp_path: Path, run_cli: Cli
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 30), "red").save(tmp_path / folder / "x.png")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    images = [tmp_path / "a" / "x.png", bad, tmp_path / "b" / "x.png"]
    done = run_cli("visualize", *images, "-m", net, "--size", 32, "-o", tmp_path / "o", "--json")
    assert done.code == 1
    assert "left out: the file is not an image" in done.err
    assert done.err.splitlines()[-1].startswith("drconv: error: 1 of 3 images could not be drawn; the rest are in")
    written = ["a-x.png", "b-x.png", "grid.png", "images.csv", "statistics.json", "usage.png"]
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == written
    data = json.loads(done.out)
    assert [Path(x["figure"]).name for x in data["result"]["images"]] == ["a-x.png", "b-x.png"]
    assert any("not an image" in warning for warning in data["warnings"])


def test_visualize_a_network_of_one_channel(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    done = run_cli("visualize", photo, "-m", net.replace("Net", "gray"), "--size", 32, "-o", tmp_path / "o")
    assert done.code == 0


def test_visualize_a_network_whose_numbers_are_not_finite(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    done = run_cli("visualize", photo, "-m", net.replace("Net", "nan"), "--size", 32, "-o", tmp_path / "o", "--json")
    assert done.code == 0
    assert json.loads(done.out)["result"]["images"][0]["layers"][0]["filter_norms"][0] is None


def test_models_and_env(run_cli: Cli) -> None:
    names = [m["name"] for m in json.loads(run_cli("models", "--json").out)["result"]["models"]]
    assert names == list_models()
    data = json.loads(run_cli("env", "--json").out)
    assert data["environment"]["torch"] == torch.__version__
    assert data["result"]["backends"]["eager"] == {"runs": True, "why_not": None, "automatic": True}
    assert "packages" in data["result"]


def test_version(run_cli: Cli) -> None:
    assert run_cli("--version").out == f"drconv {__version__}\n"


def test_a_checkpoint_of_a_zoo_model_counts(tmp_path: Path, run_cli: Cli) -> None:
    weights = tmp_path / "w.pt"
    torch.save(create_model("shufflenet_v2_x0_5").state_dict(), weights)
    assert run_cli("flops", "shufflenet_v2_x0_5", "--checkpoint", weights, "--size", 64).code == 0


@pytest.mark.parametrize("command", ["flops", "profile", "models", "env"])
def test_every_command_has_the_same_ways_to_speak(command: str, net: str, tmp_path: Path, run_cli: Cli) -> None:
    target = {"flops": [net, "--size", 16], "profile": [net, "--size", 16, "--rounds", 1, "--warmup", 0]}
    arguments = [command, *target.get(command, []), "--device", "cpu"]
    data = json.loads(run_cli(*arguments, "--format", "json").out)
    assert data["environment"]["device"] == "cpu"
    assert data["command"] == command
    for suffix in ("json", "csv", "md", "txt"):
        assert run_cli(*arguments, "-o", tmp_path / f"{command}.{suffix}").code == 0
    refused = run_cli(*arguments, "--device", "cdua")
    assert refused.code == 1
    assert "did you mean cuda" in refused.err
