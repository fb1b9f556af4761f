"""`drconv compare` from the outside."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from drconv.models import load_model
from tests.drconv_cli.test_bad_input import assert_one_line
from tests.drconv_cli.test_commands import NET, Cli


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(NET)
    return f"{tmp_path / 'nets.py'}:Net"


def result(done: object) -> dict:
    assert done.code == 0, done.err
    return json.loads(done.out)["result"]


def test_checkpoints_that_differ_in_the_order_of_regions_agree(
    net: str, photo: Path, tmp_path: Path, run_cli: Cli
) -> None:
    torch.manual_seed(0)
    state = load_model(net).state_dict()
    save_file(state, tmp_path / "a.safetensors")
    # Region j of the first becomes region order[j].
    order = torch.tensor([2, 0, 1])
    for name in ("region.guide.weight", "region.guide.bias"):
        state[name] = state[name][torch.argsort(order)].clone()
    for part in ("weight", "bias"):
        rows = state[f"region.filter_generator.expand.{part}"]
        state[f"region.filter_generator.expand.{part}"] = rows.unflatten(0, (3, -1))[torch.argsort(order)].flatten(0, 1)
    for name in ("region.filter_generator.reduce.weight", "region.filter_generator.reduce.bias"):
        state[name] = state[name].unflatten(0, (3, 3))[torch.argsort(order)].flatten(0, 1)
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "b.safetensors")
    files = (tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    options = ("-m", net, "-i", photo, "--size", 48, "--layers", "all", "--json")
    layers = {layer["first"]: layer for layer in result(run_cli("compare", *files, *options))["layers"]}
    assert list(layers) == ["region", "deeper", "last"]
    assert layers["region"]["names"] == torch.argsort(order).tolist()
    assert all(layer["agreement"] > 0.99 for layer in layers.values())
    assert all(layer["adjusted_mutual_information"] > 0.95 for layer in layers.values())


def test_two_layers_and_their_picture(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    picture = tmp_path / "difference.png"
    one = ("compare", "region", "deeper", "-m", net, "-i", photo, "--size", 48, "--picture", picture)
    done = run_cli(*one, "--json")
    found = result(done)
    assert (found["kind"], len(found["layers"])) == ("layers", 1)
    assert found["layers"][0]["grid"] == [28, 24]
    assert 0 < found["layers"][0]["agreement"] < 1
    with Image.open(picture) as drawn:
        assert drawn.width > 1000
    assert_one_line(run_cli(*one), "exists", "--force")
    same = result(run_cli("compare", "region", "region", "-m", net, "-i", photo, "--size", 48, "--json"))
    assert same["layers"][0]["agreement"] == 1


def test_an_image_agrees_with_itself_and_not_with_its_mirror(
    net: str, photo: Path, tmp_path: Path, run_cli: Cli
) -> None:
    mirrored = tmp_path / "mirrored.png"
    with Image.open(photo) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored)
    options = ("-m", net, "--size", 48, "--json")
    same = result(run_cli("compare", photo, photo, *options))["layers"]
    other = result(run_cli("compare", photo, mirrored, *options))["layers"]
    assert [layer["agreement"] for layer in same] == [1, 1]
    assert all(layer["agreement"] < 1 for layer in other)
    assert all(layer["names"] == list(range(layer["num_regions"][0])) for layer in other), "numbers mean the same"


def test_wrong_usage(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    weights = tmp_path / "a.safetensors"
    weights.touch()
    usage = {
        ("region", "last"): "a photo is needed",
        (photo, photo, "-i", photo): "are images themselves",
        ("region", "last", "-i", photo, "--layers", "x"): "A and B are the layers",
        (photo, photo, "--picture", "x.txt"): "must end in .png",
        (
            "a.safetensors",
            "b.safetensors",
            "-i",
            photo,
            "--checkpoint",
            tmp_path / "a.safetensors",
        ): "are the checkpoints",
    }
    for arguments, message in usage.items():
        done = run_cli("compare", *arguments, "-m", net)
        assert done.code == 2, arguments
        assert message in " ".join(done.err.split()), done.err
    assert_one_line(run_cli("compare", photo, "region", "-m", net), "must be of one kind", "images and layers")
    assert_one_line(run_cli("compare", "regoin", "last", "-m", net, "-i", photo), "regoin", "region")
    assert_one_line(run_cli("compare", photo, "missing.jpg", "-m", net), "there is no file missing.jpg")


def test_images_whose_last_layers_differ(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    Image.new("RGB", (64, 2), "red").save(tmp_path / "wide.png")
    Image.new("RGB", (2, 2), "red").save(tmp_path / "tiny.png")
    files = (tmp_path / "wide.png", tmp_path / "tiny.png")
    for pair in (files, files[::-1]):
        found = result(run_cli("compare", *pair, "-m", net, "--size", 2, "--json"))
        assert all(0 <= layer["agreement"] <= 1 for layer in found["layers"])


def test_a_picture_never_replaces_a_photo(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    copy = tmp_path / "a.png"
    Image.new("RGB", (32, 32), "red").save(copy)
    before = copy.read_bytes()
    done = run_cli("compare", copy, photo, "-m", net, "--size", 32, "--picture", copy, "--force")
    assert_one_line(done, "would replace what is compared")
    assert copy.read_bytes() == before
