"""`drconv profile` with its options: what they give, what they refuse, and how it ends."""

import csv
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

Cli = Callable[..., Any]
ONCE = ("--rounds", 1, "--warmup", 0)
LAYER = ("--layer", "in=8,out=8,size=4", *ONCE)


@pytest.fixture
def net(tmp_path: Path) -> str:
    path = tmp_path / "net.py"
    path.write_text(
        "from torch import nn\n"
        "from drconv import DRConv2d\n"
        "def net(width=8):\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 3, 2), DRConv2d(width, width, 1), DRConv2d(width, width, 1))\n"
    )
    return f"{path}:net"


def printed(run_cli: Cli, *args: object) -> dict[str, Any]:
    done = run_cli("profile", *args, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


@pytest.mark.parametrize(
    "args",
    [
        ("{net}", "--size", 16, *ONCE),
        ("{net}", "--size", 16, "--rounds", 6, "--layout", "both", "--stages", "--every-layer", "--backend", "eager"),
        ("{net}", "--size", 16, "--pass", "step", "--cache", "warm,cold", "--backend", "eager", *ONCE),
        ("{net}", "--size", 16, "--dry-run"),
        ("{net}", "--sweep", "size=16,16x24", "--sweep", "batch=1,2", "--backend", "eager", *ONCE),
        LAYER,
        (*LAYER, "--scope", "operator", "--pass", "backward", "--filter-order", "torch", "--backend", "eager"),
        (*LAYER, "--dry-run"),
        (*LAYER, "--sweep", "size=3,4", "--sweep", "maps=salt,single", "--backend", "eager"),
    ],
    ids=lambda args: " ".join(map(str, args)),
)
def test_json_follows_the_published_schema(args: tuple[object, ...], net: str, run_cli: Cli) -> None:
    schema = json.loads(run_cli("schema", "profile").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    data = printed(run_cli, *(str(arg).format(net=net) for arg in args))
    jsonschema.validate(data, schema)
    assert data["command"] == "profile"
    assert data["environment"]["threads"] >= 1


def test_the_schema_refuses_what_is_not_in_it(run_cli: Cli) -> None:
    schema = json.loads(run_cli("schema", "profile").out)
    data = printed(run_cli, *LAYER, "--backend", "eager")
    for change in ({"targets": [{}]}, {"pass": "sideways"}, {"stop": None}, {"input_shape": [0]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(data | {"result": data["result"] | change}, schema)
    data["result"]["targets"][0]["candidates"][0]["samples_s"] = ["fast"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, schema)


def test_a_network_by_default(net: str, run_cli: Cli) -> None:
    data = printed(run_cli, net, "--size", "16", "--batch", "2", *ONCE)
    targets = data["result"]["targets"]
    assert [(t["name"], t["members"]) for t in targets] == [("1", ["1", "2"]), ("network", [])]
    assert [c["candidate"] for c in targets[0]["candidates"]] == ["conv2d", "conv2d", "native", "eager", "naive"]
    assert data["arguments"]["input_shape"] == data["result"]["input_shape"] == [2, 3, 16, 16]
    assert data["arguments"]["pass"] == "forward"


def test_one_layer(run_cli: Cli) -> None:
    data = printed(run_cli, *LAYER, "-b", 3, "--maps", "salt", "--occurring", 2, "--backend", "eager")
    result = data["result"]
    assert result["input_shape"] == [3, 8, 4, 4]
    (target,) = result["targets"]
    assert (target["name"], target["shape"]) == ("layer", "8->8 @ 4x4")
    assert target["maps"]["regions"] == 2
    assert data["arguments"]["layer"] == "in=8,out=8,size=4"


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_another_dtype(dtype: str, net: str, run_cli: Cli) -> None:
    for subject in (LAYER, (net, "--size", 16, *ONCE)):
        result = printed(run_cli, *subject, "--dtype", dtype)["result"]
        assert result["dtype"] == dtype
        (eager,) = (c for c in result["targets"][0]["candidates"] if c["candidate"] == "eager")
        assert eager["refusal"] is None
        assert eager["error"] <= {"float64": 1e-10, "bfloat16": 4e-2}[dtype]


def test_a_photo_as_a_map_and_as_an_input(photo: Path, net: str, run_cli: Cli) -> None:
    layer = ("--layer", "in=8,out=8,size=12", "--backend", "eager", *ONCE)
    smooth = printed(run_cli, *layer, "--maps", f"image:{photo}")["result"]["targets"][0]["maps"]
    salt = printed(run_cli, *layer, "--maps", "salt")["result"]["targets"][0]["maps"]
    assert smooth["regions"] > 2
    assert smooth["boundary_share"] < salt["boundary_share"]
    shown = printed(run_cli, net, "--size", 16, "--maps", f"image:{photo}", "--backend", "eager", *ONCE)
    noise = printed(run_cli, net, "--size", 16, "--backend", "eager", *ONCE)
    assert shown["result"]["targets"][0]["maps"] != noise["result"]["targets"][0]["maps"]
    assert "no.jpg" in run_cli("profile", *LAYER, "--maps", "image:no.jpg").err


def test_a_dry_run_times_nothing(net: str, run_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drconv.analysis.profile.measure.time_interleaved", lambda *a, **k: pytest.fail("timed"))
    done = run_cli("profile", net, "--size", 16, "--dry-run", "--layout", "channels_last")
    assert done.code == 0
    assert "Nothing was timed." in done.out
    assert "1 x2" in done.out
    rows = list(csv.DictReader(StringIO(run_cli("profile", net, "--dry-run", "--size", 16, "--format", "csv").out)))
    assert {row["target"] for row in rows} == {"1 x2", "network"}


def test_tables_of_stages_and_of_what_binds_come_below(run_cli: Cli) -> None:
    done = run_cli("profile", *LAYER, "--stages", "--explain", "--backend", "eager")
    titles = ["Forward pass of one layer (module), cpu", "Stages of the dynamic layers", "What the machine allows"]
    places = [done.out.index(title) for title in titles]
    assert places == sorted(places)
    assert "GFLOP/s in a product of matrices" in done.out
    assert "layer: eager NCHW takes" in done.out


def test_a_sweep_has_a_row_per_point_and_candidate(net: str, run_cli: Cli) -> None:
    done = run_cli("profile", *LAYER, "--sweep", "out=4,8,12", "--sweep", "kernel=1,3", "--format", "csv")
    rows = list(csv.DictReader(StringIO(done.out)))
    assert len(rows) == 6 * 5
    assert [row["out"] for row in rows[::10]] == ["4", "8", "12"]
    data = printed(run_cli, net, "--sweep", "size=16,24", "--backend", "eager", *ONCE)
    assert [point["settings"] for point in data["result"]["points"]] == [{"size": 16}, {"size": 24}]
    assert [point["input_shape"][2] for point in data["result"]["points"]] == [16, 24]
    assert all([t["name"] for t in point["targets"]] == ["network"] for point in data["result"]["points"])


def test_a_sweep_over_threads_restores_their_number(run_cli: Cli) -> None:
    before = torch.get_num_threads()
    done = run_cli("profile", *LAYER, "--sweep", "threads=1,2", "--backend", "eager", "--json")
    assert done.code == 0, done.err
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_plot_of_a_sweep_and_of_targets(suffix: str, net: str, tmp_path: Path, run_cli: Cli) -> None:
    path = tmp_path / f"plot.{suffix}"
    options = ("--backend", "eager", "--plot", path)
    assert run_cli("profile", *LAYER, "--sweep", "size=3,4", *options).code == 0
    assert path.stat().st_size > 1000
    refused = run_cli("profile", net, "--size", 16, *ONCE, *options)
    assert refused.code == 1
    assert "use --force" in refused.err
    assert run_cli("profile", net, "--size", 16, *ONCE, *options, "--force").code == 0


def test_a_trace(tmp_path: Path, run_cli: Cli) -> None:
    path = tmp_path / "trace.json"
    done = run_cli("profile", *LAYER, "--backend", "eager", "--trace", path)
    assert done.code == 0, done.err
    names = {event.get("name") for event in json.loads(path.read_text())["traceEvents"]}
    assert {"layer: conv2d NCHW", "layer: conv2d channels_last", "layer: eager NCHW", "layer: naive NCHW"} <= names
    assert "use --force" in run_cli("profile", *LAYER, "--trace", path).err


def test_compare_fails_after_everything_has_been_written(tmp_path: Path, run_cli: Cli) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    six = ("--layer", "in=8,out=8,size=4", "--backend", "eager", "--rounds", 6)
    assert run_cli("profile", *six, "-o", old).code == 0
    data = json.loads(old.read_text())
    for candidate in data["result"]["targets"][0]["candidates"]:
        if candidate["candidate"] == "eager":
            candidate["to_conv2d"] |= {"median": 1e-3, "interval": [0.9e-3, 1.1e-3]}
    data["environment"]["cpu"] = "Another CPU"
    old.write_text(json.dumps(data))
    done = run_cli("profile", *six, "--compare", old, "--fail-over", "5%", "-o", new)
    assert done.code == 1
    assert "drconv: error: 1 of 4 candidates are slower than in" in done.err
    assert "most of all eager NCHW of layer: 0.00x of conv2d before" in done.err
    comparison = json.loads(new.read_text())["result"]["comparison"]
    assert comparison["regressions"] == 1
    assert "Another CPU" in comparison["differences"][0]
    shown = run_cli("profile", *six, "--compare", old)
    assert shown.code == 0
    assert "Compared with before" in shown.out
    assert "slower" in shown.out
    schema = json.loads(run_cli("schema", "profile").out)
    jsonschema.validate(json.loads(new.read_text()), schema)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read"),
        ("{", "it is no JSON"),
        ("null", "is not what drconv profile --json writes"),
        ('{"schema": 1, "command": "flops", "result": {}}', "is not what drconv profile --json writes"),
        ('{"schema": 7, "command": "profile", "result": {}}', "has schema version 7"),
        ('{"schema": 1, "command": "profile", "result": {"dry_run": true, "targets": [{}]}}', "is no profile"),
    ],
)
def test_files_to_compare_with_that_are_not_ours(
    content: str | None, words: str, tmp_path: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drconv.analysis.profile_layer", lambda *a, **k: pytest.fail("worked before it looked"))
    path = tmp_path / "old.json"
    if content is not None:
        path.write_text(content)
    done = run_cli("profile", *LAYER, "--compare", path)
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
    assert words in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layer", "in=8,out=8,size=4,kernels=3"], "unknown key of a layer 'kernels'; did you mean kernel"),
        (["--layer", "in=8,out=8"], "a layer needs in, out and size"),
        (["--layer", "in=4,out=8,size=4"], "as many input channels as regions"),
        ([*map(str, LAYER), "--occurring", "9"], "occurring must be from 1 to num_regions=8"),
        ([*map(str, LAYER), "--maps", "slat"], "maps must be one of 'uniform'"),
        ([*map(str, LAYER), "--filter-order", "torch"], "use scope='operator'"),
        ([*map(str, LAYER), "--sweep", "sizes=3,4"], "unknown axis of a layer 'sizes'; did you mean size"),
        ([*map(str, LAYER), "--cache", "hot"], "caches must be one of 'warm', 'cold'"),
        ([*map(str, LAYER), "--stages", "--pass", "step"], "stages are timed in the forward pass only"),
        (["{net}", "--sweep", "depth=1,2"], "--sweep cannot vary 'depth'"),
        (["{net}", "--size", "16", "--backend", "eagr"], "did you mean eager"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_in_one_line(arguments: list[str], words: str, net: str, run_cli: Cli) -> None:
    done = run_cli("profile", *(argument.format(net=net) for argument in arguments))
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1].startswith("drconv: error: ")
    assert words in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["resnet18", "--layer", "in=8,out=8,size=4"],
        ["--layer", "in=8,out=8,size=4", "--size", "32"],
        ["--layer", "in=8,out=8,size=4", "--convert", "drconv2d"],
        ["--occurring", "3"],
        ["--scope", "operator"],
        ["--maps", "salt"],
        ["--fail-over", "5%"],
        ["--compare", "x.json", "--fail-over", "-5%"],
        ["--target-noise", "two"],
        ["--sweep", "size=1,2", "--compare", "x.json"],
        ["--sweep", "size=32,64", "--size", "32"],
        ["--sweep", "size"],
        ["--dry-run", "--plot", "x.png"],
        ["--plot", "x.bmp"],
        ["--stages", "--format", "csv"],
        ["--pass", "sideways"],
        ["--max-time", "0"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(arguments: list[str], run_cli: Cli) -> None:
    done = run_cli("profile", *arguments)
    assert (done.code, done.out) == (2, "")
    assert "Usage:" in done.err


def test_a_network_that_has_seen_no_data_takes_statistics_first(tmp_path: Path, run_cli: Cli) -> None:
    """Else its signal fades, and the regions that are timed are not those of any network in use."""
    path = tmp_path / "faint.py"
    path.write_text(
        "from torch import nn\n"
        "from drconv import DRConv2d\n"
        "def faint(seen=False):\n"
        "    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), DRConv2d(8, 8, 1))\n"
        "    nn.init.normal_(net[0].weight, std=1e-3)\n"
        "    net[2].guide.bias.data[3] = 0.5\n"
        "    return net\n"
        "def seen():\n"
        "    net = faint()\n"
        "    net[1].running_mean += 1e-9\n"
        "    return net\n"
    )
    options = ("--size", 16, "--backend", "eager", "--no-naive", *ONCE, "--json")
    regions = {}
    for name in ("faint", "seen"):
        done = run_cli("profile", f"{path}:{name}", *options)
        assert done.code == 0, done.err
        assert ("BatchNorm takes the statistics of the input" in done.err) == (name == "faint")
        regions[name] = json.loads(done.out)["result"]["targets"][0]["maps"]["regions"]
    assert regions["seen"] == 1 < regions["faint"]
