"""Files of weights that know their model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from drconv.errors import ArgumentError, CheckpointError
from drconv.models import (
    METADATA_KEY,
    ConvertedLayers,
    ModelDescription,
    build_described,
    has_random_weights,
    input_size_of,
    load_described,
    load_model,
    read_description,
    read_state_dict,
    save_weights,
)

NARROW = ModelDescription(
    "drconv_mobilenet_v2_x0_35",
    {"num_classes": 5, "num_regions": 2},
    input_size=(3, 32, 32),
    class_names=("a", "b", "c", "d", "e"),
    trained={"data": "mosaic"},
)
CONVERTED = ModelDescription(
    "shufflenet_v2_x0_5",
    {"num_classes": 5},
    (ConvertedLayers("drconv2d", ("stage4.0.branch2.0",), {"num_regions": 3}),),
)


@pytest.mark.parametrize("description", [NARROW, CONVERTED], ids=["arguments", "conversion"])
def test_a_file_is_loaded_without_being_told_the_model(description: ModelDescription, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    model = build_described(description).eval()
    save_weights(path, model.state_dict(), description)
    loaded, found = load_described(path)
    assert found == description
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(loaded.eval()(x), model(x), rtol=0, atol=0)
    torch.testing.assert_close(load_model(str(path)).eval()(x), model(x), rtol=0, atol=0)
    assert not has_random_weights(str(path))
    assert input_size_of(str(path), loaded) == description.input_size


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    state = build_described(CONVERTED).state_dict()
    for name in ("a", "b"):
        save_weights(tmp_path / name, dict(state), replace(CONVERTED))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_bfloat16_halves_matrices_and_keeps_vectors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    model = build_described(CONVERTED)
    save_weights(path, model.state_dict(), CONVERTED, "bfloat16")
    for name, tensor in read_state_dict(path).items():
        ours = model.state_dict()[name]
        if not ours.is_floating_point():
            assert tensor.dtype == ours.dtype == torch.int64
        else:
            assert tensor.dtype == (torch.bfloat16 if ours.dim() > 1 else torch.float32)
            torch.testing.assert_close(tensor.float(), ours, rtol=2**-8, atol=0)
    loaded, _ = load_described(path)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_what_it_says_is_read_without_the_weights(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "plain.safetensors")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "plain.pt")
    assert read_description(tmp_path / "plain.safetensors") is None
    assert read_description(tmp_path / "plain.pt") is None
    with pytest.raises(CheckpointError, match="does not say which model it is for; name the model"):
        load_described(tmp_path / "plain.safetensors")
    with pytest.raises(CheckpointError, match="does not exist"):
        read_description(tmp_path / "nothing.safetensors")


def test_a_file_of_weights_runs_no_code(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    path = tmp_path / "w.safetensors"
    for model in (f"{tmp_path}/evil.py:make", "os:getcwd", "evil:make"):
        save_weights(path, nn.Linear(2, 2).state_dict(), ModelDescription(model))
        with pytest.raises(CheckpointError, match="a file of weights runs no code"):
            load_model(str(path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no json", "damaged description"),
        ({"schema": 2}, "schema 2, and this release reads 1"),
        ({"model": 3}, "damaged description.*expected a text, got 3"),
        ({"input_size": [3, 0, 3]}, "expected a positive integer, got 0"),
        ({"input_size": [3, 3]}, "damaged description"),
        ({"arguments": [[1, 2]]}, "damaged description.*expected keywords by name"),
        ("[" * 100_000, "damaged description.*RecursionError"),
        ({"converted": [{"layer": "drconv2d"}]}, "damaged description.*where"),
    ],
)
def test_damaged_descriptions(change: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    good = json.loads(NARROW.to_json())
    text = json.dumps(good | change) if isinstance(change, dict) else str(change)
    save_file({"weight": torch.zeros(2)}, path, metadata={METADATA_KEY: text})
    with pytest.raises(CheckpointError, match=message):
        read_description(path)


def test_a_file_of_weights_takes_no_arguments(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", build_described(CONVERTED).state_dict(), CONVERTED)
    with pytest.raises(ArgumentError, match="holds a finished model, which takes no num_classes"):
        load_model(str(tmp_path / "w.safetensors"), num_classes=3)


def test_factories_take_arguments_and_say_what_they_lack(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def make(num_classes=3): return nn.Linear(2, num_classes)\n"
        "def fixed(): return nn.Linear(2, 2)\n"
        "done = nn.Linear(2, 2)\n"
    )
    made = load_model(f"{tmp_path}/net.py:make", num_classes=7)
    assert isinstance(made, nn.Linear)
    assert made.out_features == 7
    with pytest.raises(ArgumentError, match=r"net\.py:fixed must take num_classes=7: .*unexpected"):
        load_model(f"{tmp_path}/net.py:fixed", num_classes=7)
    with pytest.raises(ArgumentError, match="is a finished module, which takes no num_classes=7"):
        load_model(f"{tmp_path}/net.py:done", num_classes=7)


def test_a_conversion_that_replaces_nothing_is_an_error() -> None:
    twice = replace(CONVERTED, converted=CONVERTED.converted * 2)
    with pytest.raises(ArgumentError, match="none of 1 layers was replaced"):
        build_described(twice)
