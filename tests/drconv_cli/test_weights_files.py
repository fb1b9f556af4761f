"""Every command loads a file of weights without being told the model."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from drconv.models import ModelDescription, build_described, save_weights
from tests.conftest import Outcome

Cli = Callable[..., Outcome]
MODEL = "drconv_shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    description = ModelDescription(MODEL, {"num_classes": 3, "num_regions": 2}, input_size=(3, 64, 64))
    torch.manual_seed(5)
    save_weights(path, build_described(description).state_dict(), description)
    return path


@pytest.mark.slow
def test_flops_by_argument_and_by_option(weights: Path, run_cli: Cli) -> None:
    results = [json.loads(run_cli("flops", *args, "--json").out) for args in ([weights], ["--checkpoint", weights])]
    assert results[0]["result"] == results[1]["result"]
    assert results[0]["result"]["input_size"] == [3, 64, 64]
    assert results[0]["arguments"]["checkpoint"] == str(weights)
    by_hand = run_cli("flops", MODEL, "--checkpoint", weights, "--json")
    assert json.loads(by_hand.out)["result"] == results[0]["result"]
    on_meta = run_cli("flops", weights, "--device", "meta", "--json")
    assert json.loads(on_meta.out)["result"]["params"] == results[0]["result"]["params"]


def test_the_checkpoint_says_the_model(weights: Path, run_cli: Cli) -> None:
    assert f"{weights} is for {MODEL}" in run_cli("flops", "--checkpoint", weights).err


def test_visualize(weights: Path, run_cli: Cli, photo: Path, tmp_path: Path) -> None:
    done = run_cli("visualize", photo, "--model", weights, "--size", 64, "-o", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert {layer["num_regions"] for layer in data["result"]["images"][0]["layers"]} == {2}
    assert any(f"weights of {weights}" in warning for warning in data["warnings"])


@pytest.mark.slow
def test_profile_compare_and_sweep(weights: Path, run_cli: Cli, photo: Path) -> None:
    planned = json.loads(run_cli("profile", weights, "--dry-run", "--json").out)
    assert planned["arguments"]["input_shape"][-2:] == [64, 64]
    compared = run_cli("compare", weights, weights, "--image", photo, "--size", 64, "--json")
    assert compared.code == 0, compared.err
    swept = run_cli("flops", weights, "--sweep", "size=32,64", "--json")
    assert swept.code == 0, swept.err
    refused = run_cli("flops", weights, "--sweep", "num_regions=2,4")
    assert refused.code == 1
    assert "cannot vary 'num_regions'" in refused.err


def test_refusals(weights: Path, run_cli: Cli, tmp_path: Path) -> None:
    both = run_cli("flops", weights, "--checkpoint", weights)
    assert (both.code, "holds weights already" in both.err) == (1, True)
    save_file({"x": torch.zeros(1)}, tmp_path / "plain.safetensors")
    silent = run_cli("flops", tmp_path / "plain.safetensors")
    assert (silent.code, "does not say which model" in silent.err) == (1, True)
    other = run_cli("flops", "shufflenet_v2_x0_5", "--checkpoint", weights)
    assert (other.code, "does not fit ShuffleNetV2" in other.err) == (1, True)
