"""--convert, and the models and weights of others, from the outside."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from drconv import convert
from drconv.models import load_model
from drconv_cli.conversion import Conversion, parse_conversion
from drconv_cli.target import open_target
from tests.drconv_cli.test_bad_input import assert_one_line
from tests.models.test_foreign import Released
from tests.zoo import need

Cli = Callable[..., "object"]
NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(),
                         nn.Conv2d(8, 4, 1))

def sized():
    net = Net()
    net.default_cfg = {"input_size": (3, 24, 20)}
    return net
"""
FAST = ["--rounds", 1, "--warmup", 0, "--size", 16, "--json"]


@pytest.fixture
def net(tmp_path: Path) -> str:
    path = tmp_path / "nets.py"
    path.write_text(NET)
    return f"{path}:Net"


@pytest.mark.parametrize(
    ("text", "where", "layer", "keywords"),
    [
        ("layer3=drconv2d", ("layer3",), "drconv2d", {}),
        (
            "*@3x3,dense=drconv2d:num_regions=4,filter_generator=basis",
            ("*@3x3,dense",),
            "drconv2d",
            {"num_regions": 4, "filter_generator": "basis"},
        ),
        ("* !stem.* =dynamic_conv2d:temperature=1e1", ("*", "!stem.*"), "dynamic_conv2d", {"temperature": 10.0}),
        ("drconv2d", None, "drconv2d", {}),
        (
            "drconv2d:guide_bias=False,backend=none, num_regions = -3",
            None,
            "drconv2d",
            {"guide_bias": False, "backend": None, "num_regions": -3},
        ),
        ("x=conv2d", ("x",), "conv2d", {}),
    ],
)
def test_form(text: str, where: tuple[str, ...] | None, layer: str, keywords: dict[str, object]) -> None:
    text = text.replace(" = ", "=")
    assert parse_conversion(text) == Conversion(text, where, layer, keywords)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "=drconv2d",
        " =drconv2d",
        "x=",
        "x=:num_regions=3",
        "x=drconv2d:",
        "x=drconv2d:num_regions",
        "x=drconv2d:num_regions=",
        "x=drconv2d:=3",
        "x=drconv2d:num_regions=3,",
        "x=drconv2d:num_regions=3,num_regions=4",
        "x=drconv2d=dynamic_conv2d",
        "x=drconv2d:where=y",
        "x=drconv2d:a:b=3",
    ],
)
@pytest.mark.parametrize("command", ["flops", "profile", "visualize"])
def test_what_is_not_in_that_form_is_a_usage_error(command: str, text: str, run_cli: Cli) -> None:
    done = run_cli(command, "x.png", "--convert", text)
    assert done.code == 2
    assert done.out == ""
    assert "--convert" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("*=drconv", ["unknown layer 'drconv'; did you mean drconv2d"]),
        ("layer9=drconv2d", ["unknown convolution 'layer9'; known: 0, 3, 5"]),
        ("*@5x5=drconv2d", ["no convolution of '*' is '5x5'; there are 3x3,dense"]),
        ("*@big=drconv2d", ["unknown term 'big'"]),
        ("!0=drconv2d", ["takes away from the patterns before it"]),
        ("*=drconv2d:regions=3", ["keyword 'regions' of 'drconv2d' is unknown; keywords: num_regions"]),
        ("*=drconv2d:num_regions=none", ["num_regions must be an integer of at least 1"]),
        ("*=drconv2d:num_regions=2.5", ["num_regions must be an integer of at least 1"]),
        ("*=drconv2d:keep_weights=no", ["keep_weights must be true or false"]),
        ("*=dynamic_conv2d:temperature=nan", ["temperature must be a positive number"]),
        ("*=conv2d", ["unknown dynamic layer '*'; known: none"]),
        ("conv2d", ["--convert 'conv2d': none of 0 layers was replaced"]),
    ],
)
def test_what_cannot_be_converted_is_one_line(text: str, words: list[str], net: str, run_cli: Cli) -> None:
    assert_one_line(run_cli("profile", net, "--convert", text), *words)


def test_conversions_apply_in_order_and_are_said(net: str, run_cli: Cli) -> None:
    options = ["--convert", "3=drconv2d:num_regions=3", "--convert", "5=dynamic_conv2d:num_experts=2"]
    done = run_cli("profile", net, *options, *FAST)
    assert done.code == 0, done.err
    data = json.loads(done.out)
    lines = [
        "--convert '3=drconv2d:num_regions=3': 1 of 1 layers became DRConv2d; 1 do not start with the old output "
        "(the pooled form starts with one value for all taps of a filter, here their mean)",
        "--convert '5=dynamic_conv2d:num_experts=2': 1 of 1 layers became DynamicConv2d; outputs start equal",
    ]
    assert [line for line in done.err.splitlines() if line.startswith("--convert")] == lines
    assert data["arguments"]["convert"] == [options[1], options[3]]
    assert data["arguments"]["converted"] == lines
    assert [t["name"] for t in data["result"]["targets"]] == ["3", "5", "network"]
    plain = json.loads(run_cli("profile", net, "--convert", "3=drconv2d", *FAST).out)
    assert [t["name"] for t in plain["result"]["targets"]] == ["3", "network"]


def test_a_converted_network_is_drawn(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    options = ["--convert", "drconv2d:num_regions=3,filter_generator=learned"]
    done = run_cli("visualize", photo, "-m", net, *options, "--size", 32, "-o", tmp_path / "o", "--json")
    assert done.code == 0, done.err
    assert "2 of 3 layers became DRConv2d; outputs start equal" in done.err
    data = json.loads(done.out)
    assert (
        "Net (drconv2d) with weights as Net made them (seed 0); what --convert adds is untrained" in data["warnings"][0]
    )
    # All regions start with one filter.
    cosines = data["result"]["images"][0]["layers"][0]["filter_cosines"]
    assert all(cosine == pytest.approx(1) for row in cosines for cosine in row)


def test_the_first_convolution_may_be_a_dynamic_one(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    options = ["--convert", "0=dynamic_conv2d", "--convert", "3=drconv2d"]
    done = run_cli("visualize", photo, "-m", net, *options, "--size", 32, "-o", tmp_path / "o")
    assert done.code == 0, done.err


@pytest.mark.parametrize("when", ["before", "after"])
def test_weights_are_loaded_before_the_conversion_if_they_fit_then(
    when: str, net: str, photo: Path, tmp_path: Path, run_cli: Cli
) -> None:
    model = load_model(net)
    if when == "after":
        model, _ = convert(model, num_regions=3)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    options = ["--convert", "drconv2d:num_regions=3", "--checkpoint", tmp_path / "w.pt"]
    done = run_cli("visualize", photo, "-m", net, *options, "--size", 32, "-o", tmp_path / "o", "--json")
    assert done.code == 0, done.err
    (note,) = json.loads(done.out)["warnings"]
    assert f"Net (drconv2d) with weights of {tmp_path / 'w.pt'}, loaded {when} --convert" in note
    assert ("untrained" in note) == (when == "before")


def test_weights_that_fit_neither_before_nor_after(net: str, tmp_path: Path, run_cli: Cli) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "w.pt")
    done = run_cli("profile", net, "--convert", "3=drconv2d", "--checkpoint", tmp_path / "w.pt")
    assert_one_line(done, "w.pt does not fit Net: 0 of", "1 unexpected (x)")


def test_released_weights_are_recognised_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "drconv_shufflenet_v2_x0_5_released"
    torch.save(Released("x0_5", 1000).state, tmp_path / "w.pth")
    target = open_target(name, tmp_path / "w.pth", "cpu")
    number = len(target.model.state_dict())
    said = capsys.readouterr().err
    assert said == f"{tmp_path / 'w.pth'}: {number} tensors in the released layout, all matched\n"
    assert not target.is_random


def test_a_size_is_the_models_unless_given(net: str, run_cli: Cli) -> None:
    """timm's models say their size in this attribute; registered ones in the table of models."""
    options = ["--convert", "5=drconv2d", "--rounds", 1, "--warmup", 0, "--json"]
    spec = net.replace("Net", "sized")
    sizes = ([], ["--size", "32"], ["--input", "3x16x8"])
    shapes = [json.loads(run_cli("profile", spec, *options, *size).out)["arguments"]["input_shape"] for size in sizes]
    assert shapes == [[1, 3, 24, 20], [1, 3, 32, 32], [1, 3, 16, 8]]


@pytest.mark.parametrize(
    ("spec", "conversion", "shape"),
    [
        ("timm:test_resnet", "layer4.0@3x3=drconv2d:num_regions=2", [1, 3, 160, 160]),
        (
            "torchvision:squeezenet1_1",
            "features.12@3x3=drconv2d:num_regions=2,filter_generator=basis",
            [1, 3, 224, 224],
        ),
    ],
)
def test_models_of_collections(spec: str, conversion: str, shape: list[int], run_cli: Cli) -> None:
    need(spec.partition(":")[0])
    done = run_cli("profile", spec, "--convert", conversion, "--rounds", 1, "--warmup", 0, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["arguments"]["input_shape"] == shape


def test_a_model_that_a_collection_does_not_have(run_cli: Cli) -> None:
    need("torchvision")
    assert_one_line(run_cli("profile", "torchvision:resnet81"), "unknown torchvision model 'resnet81'; did you mean")


def test_counts_of_a_converted_network(net: str, run_cli: Cli) -> None:
    done = run_cli("flops", net, "--convert", "*@1x1=drconv2d", "--size", 16, "--json")
    data = json.loads(done.out)
    assert [layer["type"] for layer in data["result"]["layers"] if layer["stages"]] == ["DRConv2d"]
    assert data["arguments"]["converted"] == [
        "--convert '*@1x1=drconv2d': 1 of 1 layers became DRConv2d; outputs start equal"
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        "shufflenet_v2_x0_5",
        "mobilefacenet",
        "resnet10",
        "torchvision:efficientnet_b0",
        "timm:resnet26d",
        "timm:ghostnet_100",
    ],
)
def test_networks_of_every_origin_are_drawn(model: str, run_cli: Cli, photo: Path, tmp_path: Path) -> None:
    # More of them are converted and recorded in tests/layers/test_convert_nets.py.
    if ":" in model:
        need(model.partition(":")[0])
    conversion = "drconv2d:filter_generator=basis,num_regions=4"
    done = run_cli("visualize", photo, "-m", model, "--convert", conversion, "--size", 112, "-o", tmp_path)
    assert done.code == 0, done.err
    assert "outputs start equal" in done.err
    image = Image.open(tmp_path / "grace_hopper.png")
    assert min(image.size) > 500
    # Regions are there to be seen: one layer at least has more than one.
    (drawn,) = json.loads((tmp_path / "statistics.json").read_text())["result"]["images"]
    assert max(layer["num_present"] for layer in drawn["layers"]) > 1
