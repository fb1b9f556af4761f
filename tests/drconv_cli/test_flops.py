"""`drconv flops` with its options: what they change, and what they refuse."""

import csv
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from PIL import Image

import drconv.analysis.flops.operators as operators

Cli = Callable[..., Any]
NET = "drconv_shufflenet_v2_x0_5"


def result(run_cli: Cli, *args: object) -> dict[str, Any]:
    done = run_cli("flops", *args, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)["result"]


@pytest.fixture
def odd_net(tmp_path: Path) -> str:
    path = tmp_path / "odd.py"
    path.write_text(
        "from torch import nn\n"
        "class Odd(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(3, 20, 1)\n"
        "    def forward(self, x):\n"
        "        return self.conv(x).cumsum(1)\n"
    )
    return f"{path}:Odd"


@pytest.mark.parametrize(
    "args",
    [
        (NET, "--size", 64),
        (NET, "--size", 64, "--include", "norm,bias", "--backward", "--memory", 8, "--backend", "naive"),
        ("shufflenet_v2_x0_5", "--size", 64, "--depth", 2),
        (NET, "--size", 64, "--convention", "released"),
        (NET, "--size", 64, "--cross-check"),
        (NET, "--size", 64, "--device", "meta"),
        (NET, "--sweep", "num_regions=1,2", "--sweep", "size=64,64x96"),
        ("resnet10", "--size", 64, "--convert", "layer4@3x3=drconv2d:num_regions=2,filter_generator=learned"),
    ],
    ids=lambda args: " ".join(map(str, args)),
)
def test_json_follows_the_published_schema(args: tuple[object, ...], run_cli: Cli) -> None:
    schema = json.loads(run_cli("schema", "flops").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    done = run_cli("flops", *args, "--json")
    jsonschema.validate(json.loads(done.out), schema)


def test_the_schema_refuses_what_is_not_in_it(run_cli: Cli) -> None:
    schema = json.loads(run_cli("schema", "flops").out)
    printed = json.loads(run_cli("flops", NET, "--size", 64, "--json").out)
    assert jsonschema.validate(printed | {"result": printed["result"] | {"a_later_key": 1}}, schema) is None
    for change in ({"madds": -1}, {"madds": 1.5}, {"convention": None}, {"layers": [{}]}):
        wrong = printed | {"result": printed["result"] | change}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_schema_of_an_unknown_command(run_cli: Cli, tmp_path: Path) -> None:
    assert (
        run_cli("schema", "__init__.py").err
        == "drconv: error: unknown schema '__init__.py'; known: evaluate, flops, profile, train\n"
    )
    done = run_cli("schema", "flop")
    assert (done.code, done.err) == (1, "drconv: error: unknown schema 'flop'; did you mean flops?\n")
    assert run_cli("schema", "flops", "-o", tmp_path / "s.json").code == 0
    assert json.loads((tmp_path / "s.json").read_text())["$schema"].endswith("2020-12/schema")


def test_a_tree_to_a_depth(run_cli: Cli) -> None:
    out = run_cli("flops", NET, "--size", 64, "--depth", 1).out
    names = [line.split()[0] for line in out.splitlines()[3:10]]
    assert names == ["total", "conv1", "stage2", "stage3", "stage4", "conv5", "fc"]
    rows = list(csv.DictReader(StringIO(run_cli("flops", NET, "--size", 64, "--depth", 1, "--format", "csv").out)))
    assert int(rows[0]["theory"]) == sum(int(row["theory"]) for row in rows[1:])


def test_meta_counts_the_same_without_weights(run_cli: Cli, tmp_path: Path) -> None:
    there, meta = result(run_cli, NET), result(run_cli, NET, "--device", "meta")
    assert (meta["madds"], meta["executed"], meta["params"]) == (there["madds"], there["executed"], there["params"])
    assert (there["engine"], meta["engine"]) == ("fvcore", "torch.utils.flop_counter")
    photo = tmp_path / "x.png"
    Image.new("RGB", (40, 30), "red").save(photo)
    for command, subject in (("profile", NET), ("visualize", photo)):
        done = run_cli(command, subject, "--device", "meta")
        assert done.code == 1
        assert "no device 'meta' here" in done.err


def test_backend_changes_only_what_is_executed(run_cli: Cli) -> None:
    first, second = result(run_cli, NET, "--size", 64), result(run_cli, NET, "--size", 64, "--backend", "naive")
    assert first["madds"] == second["madds"]
    assert first["executed"] < second["executed"]


def test_released_convention(run_cli: Cli) -> None:
    done = run_cli("flops", f"{NET}_released", "--convention", "released", "--json")
    found = json.loads(done.out)["result"]
    assert found["madds"] == 45_019_192
    assert "released DRConv code" in found["convention"]
    table = run_cli("flops", "shufflenet_v2_x0_5", "--convention", "released", "--size", 64).out
    assert "released DRConv code" in table
    assert table.startswith("Operations and parameters")
    assert table.splitlines()[1].split() == ["layer", "type", "stage", "operations", "share", "generated", "params"]


def test_cross_check_agrees_and_a_wrong_formula_exits_1(run_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_cli("flops", NET, "--size", 64, "--cross-check")
    assert done.code == 0
    assert done.out.splitlines()[-2].split()[-1] == "yes"
    right = operators.OP_FLOPS["drconv::region_conv2d"]
    wrong = operators._madds(lambda inputs, outputs: 2 * right(inputs, outputs))
    monkeypatch.setitem(operators.HANDLES, "drconv::region_conv2d", wrong)
    done = run_cli("flops", NET, "--size", 64, "--cross-check")
    assert done.code == 1
    assert "the counts of 16 of 57 layers differ, first stage2.0.branch2.0 (DRConv2d)" in done.err
    assert done.out.splitlines()[-2].split()[-1] == "no"


def test_strict(run_cli: Cli, odd_net: str) -> None:
    assert run_cli("flops", NET, "--size", 64, "--strict").code == 0
    assert run_cli("flops", f"{NET}_released", "--size", 64, "--strict").code == 0
    lax, strict = run_cli("flops", odd_net, "--size", 8), run_cli("flops", odd_net, "--size", 8, "--strict")
    assert (lax.code, strict.code) == (0, 1)
    assert lax.out == strict.out
    assert "Not counted, for lack of a formula: cumsum x1 (about 33.33% of the MAdds" in lax.out
    assert "--strict: no formula for cumsum x1 (about 33.33% of the MAdds)" in strict.err


def test_memory_and_backward(run_cli: Cli) -> None:
    found = result(run_cli, NET, "--size", 64, "--memory", 32, "--backward")
    assert found["memory"]["batch_size"] == 32
    assert found["memory"]["generated_filters"] == 32 * found["generated"] * 4
    assert found["backward"] > 2 * found["madds"] * 0.9
    assert result(run_cli, NET, "--size", 64)["memory"] is None


def test_a_generator_that_outweighs_is_in_the_warnings(run_cli: Cli) -> None:
    done = json.loads(run_cli("flops", NET, "--json").out)
    (warning,) = done["warnings"]
    assert warning.startswith("making the filters costs more than using them in 3 layers: stage4.1.branch2.0 (7x7 map")


def test_sweep_over_model_and_size(run_cli: Cli) -> None:
    found = result(run_cli, NET, "--sweep", "num_regions=1,2", "--sweep", "size=64,64x96")
    assert found["axes"] == ["num_regions", "size"]
    settings = [tuple(map(str, point["settings"].values())) for point in found["points"]]
    assert settings == [("1", "64"), ("1", "[64, 96]"), ("2", "64"), ("2", "[64, 96]")]
    assert found["points"][2]["params"] > found["points"][0]["params"]
    # A sweep counts what the model alone counts.
    assert found["points"][0]["madds"] < result(run_cli, NET, "--size", 64)["madds"]
    with_8 = result(run_cli, NET, "--sweep", "num_regions=8", "--size", 64)["points"][0]
    assert with_8["madds"] == result(run_cli, NET, "--size", 64)["madds"]


def test_sweep_over_a_conversion(run_cli: Cli) -> None:
    conversion = "layer4@3x3=drconv2d:filter_generator=learned"
    swept = result(run_cli, "resnet10", "--size", 64, "--convert", conversion, "--sweep", "num_regions=1,4")
    alone = result(run_cli, "resnet10", "--size", 64, "--convert", f"{conversion},num_regions=4")
    assert swept["points"][1]["madds"] == alone["madds"]
    assert swept["points"][1]["params"] == alone["params"]
    refused = run_cli("flops", "resnet10", "--convert", conversion, "--sweep", "num_expert=1,4")
    assert refused.code == 1
    assert "--sweep cannot vary 'num_expert' of resnet10" in refused.err


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_plot_of_a_sweep(suffix: str, run_cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / f"sweep.{suffix}"
    axes = ("--sweep", "filter_generator=pooled,learned", "--sweep", "size=64,96")
    args = (NET, "--device", "meta", *axes, "--plot", path)
    done = run_cli("flops", *args)
    assert done.code == 0, done.err
    assert f"wrote {path}" in done.err
    if suffix == "png":
        assert min(Image.open(path).size) > 500
    assert path.stat().st_size > 2000
    kept = path.read_bytes()
    assert "exists and is kept" in run_cli("flops", *args).err
    assert path.read_bytes() == kept


@pytest.mark.parametrize(
    "args",
    [
        ("--cross-check", "--sweep", "size=64"),
        ("--cross-check", "--depth", "1"),
        ("--cross-check", "--convention", "released"),
        ("--cross-check", "--device", "meta"),
        ("--sweep", "size=64", "--size", "32"),
        ("--sweep", "size=64", "--memory", "4"),
        ("--sweep", "size=0"),
        ("--sweep", "size=64,64"),
        ("--sweep", "size="),
        ("--sweep", "num_regions"),
        ("--sweep", "size=64", "--sweep", "size=32"),
        ("--plot", "x.png"),
        ("--sweep", "size=64", "--plot", "x.jpg"),
        ("--sweep", "size=64", "--plot", "x.png", "--output", "./x.png", "--format", "csv"),
        ("--device", "meta", "--strict"),
        ("--device", "meta", "--include", "norm"),
        ("--memory", "0"),
        ("--depth", "-1"),
        ("--convention", "papers"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_message(args: tuple[str, ...], run_cli: Cli) -> None:
    done = run_cli("flops", NET, *args)
    assert done.code == 2
    assert "drconv flops [OPTIONS] [MODEL]" in done.err
    assert not done.out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--include", "normal"), "include must be one of 'norm', 'pool'"),
        (("--include", ""), "include must be one of"),
        (("--backend", "eagr"), "unknown backend 'eagr'; did you mean eager?"),
        (("--sweep", "regions=1,2"), "--sweep cannot vary 'regions' of drconv_shufflenet_v2_x0_5; it can: size, "),
        (("--sweep", "num_regions=1,x"), "num_regions must be an integer of at least 1, got num_regions='x'"),
        (("--sweep", "filter_generator=pool"), "unknown filter generator 'pool'; did you mean pooled?"),
        (("--sweep", "num_regions=100000"), "model 'drconv_shufflenet_v2_x0_5' cannot be built with"),
        (("--sweep", "num_classes=99999999999999999"), "num_classes must be at most 2147483647"),
        (("--sweep", "features_only=5"), "features_only must be true or false, got features_only=5"),
        (("--memory", "1000000000000000000000"), "failed on an input of 1000000000000000000000x3x64x64"),
        (("--convert", "conv1=dynamic_conv2d:temperature=1e300"), "temperature must be a positive number"),
        (("--convert", "conv1=drconv2d:num_regions=100000"), "cannot become 'drconv2d' with {'num_regions': 100000}"),
        (("--convert", "conv1=drconv2d:num_regions=99999999999999999999"), "num_regions must be at most 2147483647"),
        (("--convert", "conv1=drconv2d:own_guide=false"), "'own_guide' is not for convert"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_values_are_one_line(args: tuple[str, ...], words: str, run_cli: Cli) -> None:
    done = run_cli("flops", NET, "--size", "64", *args) if "--sweep" not in args else run_cli("flops", NET, *args)
    assert done.code == 1
    assert done.err.count("drconv: error:") == 1
    assert words in done.err


def test_an_empty_name_is_no_default(run_cli: Cli) -> None:
    done = run_cli("flops", "")
    assert done.code == 1
    assert "unknown model ''" in done.err


def test_sweep_through_a_conversion_back(run_cli: Cli) -> None:
    conversions = ("--convert", "layer4@3x3=drconv2d:filter_generator=learned", "--convert", "conv2d")
    found = result(run_cli, "resnet10", "--size", 64, *conversions, "--sweep", "num_regions=1,2")
    assert len({point["madds"] for point in found["points"]}) == 1
