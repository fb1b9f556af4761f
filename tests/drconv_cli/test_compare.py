"""`drconv compare` from the outside."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from drconv.models import ModelDescription, build_described, load_model, save_weights
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


def test_without_a_model_it_is_the_one_that_ships(photo: Path, run_cli: Cli) -> None:
    layers = ("stage2.3.branch2.5", "stage3.3.branch2.5", "-i", photo)
    for arguments in ((photo, photo), layers):
        done = run_cli("compare", *arguments, "--size", 64, "--json")
        found = result(done)
        assert json.loads(done.out)["arguments"]["model"] == "demo"
        assert done.err.startswith("no model named, so --model demo: drconv_shufflenet_v2_demo with the weights that")
        assert done.err.count("\n") == 1
        named = run_cli("compare", *arguments, "--size", 64, "--json", "-m", "demo")
        assert result(named) == found
        assert named.err == done.err.removeprefix("no model named, so --model demo: ")
    assert_one_line(
        run_cli("compare", "stage2.0.branch2.0", layers[0], "-i", photo, "--size", 64), "unknown layer", "stage2"
    )


def test_weights_and_conversions_are_said_once(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    normed = net.replace(":Net", ":Normed")
    options = ("-m", normed, "--convert", "0=drconv2d:num_regions=2", "--size", 32)
    done = run_cli("compare", photo, photo, *options)
    assert [layer in done.out for layer in ("0 ", "3 ")] == [True, True]
    assert done.err.count("BatchNorm statistics of the first image") == done.err.count("--convert '0=") == 1
    for name in ("a.safetensors", "b.safetensors"):
        save_file(load_model(normed).state_dict(), tmp_path / name)
    files = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    done = run_cli("compare", *files, "-i", photo, *options)
    assert done.code == 0, done.err
    assert done.err.count("--convert '0=") == 1
    assert [done.err.count(f"with weights of {file}") for file in files] == [1, 1]


def test_checkpoints_without_a_model(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    description = ModelDescription("drconv_shufflenet_v2_x0_5", {"num_classes": 3, "num_regions": 2})
    state = build_described(description).state_dict()
    save_weights(tmp_path / "a.safetensors", state, description)
    done = run_cli("compare", *2 * (tmp_path / "a.safetensors",), "-i", photo, "--size", 64)
    assert done.code == 0, done.err
    assert "no model named" not in done.err
    assert done.err == f"drconv_shufflenet_v2_x0_5 with weights of {tmp_path / 'a.safetensors'}\n", "of one file, once"
    save_file(load_model(net).state_dict(), tmp_path / "b.safetensors")
    nobody = run_cli("compare", *2 * (tmp_path / "b.safetensors",), "-i", photo, "--size", 64)
    assert_one_line(nobody, "does not fit", "no model is named, so drconv_shufflenet_v2_x0_5 was taken", "--model")


def test_scores_that_are_not_finite_are_said(net: str, photo: Path, tmp_path: Path, run_cli: Cli) -> None:
    options = ("-m", net.replace(":Net", ":nan"), "--size", 32)
    drawn = json.loads(run_cli("visualize", photo, *options, "-o", tmp_path / "o", "--json").out)["result"]["images"]
    layer = next(layer for layer in drawn[0]["layers"] if layer["name"] == "region")
    message = f"scores are not finite at {layer['unscored']} positions, whose region means nothing."
    assert message.removesuffix(".") in layer["verdict"]
    done = run_cli("compare", "region", "deeper", "-i", photo, *options, "--json")
    assert result(done)["layers"][0]["unscored"][0] == layer["unscored"]
    assert f"region: {message}" in json.loads(done.out)["warnings"]
    assert f"\nregion: {message}\n" in run_cli("compare", "region", "deeper", "-i", photo, *options).out
    # Of two images, which one.
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(photo.read_bytes())
    table = run_cli("compare", photo, copy, *options, "--layers", "region").out
    assert f"\nA: {photo.name}, region: {message}\nB: copy.jpg, region: {message}\n" in table
    save_file(load_model(options[1]).state_dict(), tmp_path / "nan.safetensors")
    save_file(load_model(net).state_dict(), tmp_path / "well.safetensors")
    files = [tmp_path / name for name in ("nan.safetensors", "well.safetensors")]
    table = run_cli("compare", *files, "-i", photo, *options, "--layers", "region").out
    assert f"\nA: nan.safetensors, region: {message}\n" in table
    assert "B: well.safetensors, region:" not in table


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
