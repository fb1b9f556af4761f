"""Checkpoints: what is loaded, and what is refused."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from drconv.errors import CheckpointError
from drconv.models import load_checkpoint


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


@pytest.mark.parametrize(
    "kind", ["safetensors", "torch", "under-state_dict", "under-model", "from-ddp", "compiled-ddp", "legacy"]
)
def test_weights_arrive(kind: str, tmp_path: Path) -> None:
    source, target = net(), net()
    state = source.state_dict()
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pt")
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        wrapped = {
            "torch": state,
            "under-state_dict": {"epoch": 3, "state_dict": state},
            "under-model": {"model": state},
            "from-ddp": {f"module.{name}": tensor for name, tensor in state.items()},
            "compiled-ddp": {f"_orig_mod.module.{name}": tensor for name, tensor in state.items()},
        }
        torch.save(wrapped[kind], path)
    load_checkpoint(target, path)
    assert all(torch.equal(a, b) for a, b in zip(target.state_dict().values(), state.values(), strict=True))


def test_a_model_with_a_part_called_module_keeps_its_names(tmp_path: Path) -> None:
    source, target = (nn.ModuleDict({"module": nn.Linear(2, 2)}) for _ in range(2))
    torch.save(source.state_dict(), tmp_path / "w.pt")
    load_checkpoint(target, tmp_path / "w.pt")
    assert torch.equal(source["module"].weight, target["module"].weight)


def test_another_models_checkpoint_says_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"0.weight": torch.zeros(4, 5, 1, 1), "0.bias": torch.zeros(4), "head.weight": torch.zeros(2)}, path)
    with pytest.raises(
        CheckpointError,
        match=r"does not fit Sequential: 1 of 7 tensors match; 5 missing \(1.weight, 1.bias, 1.running_mean, ...\); "
        r"1 unexpected \(head.weight\); 1 of another shape \(0.weight\)",
    ):
        load_checkpoint(net(), path)


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pickle_with_code_is_refused_and_not_run(zipped: bool, tmp_path: Path) -> None:
    marker, path = tmp_path / "run", tmp_path / "evil.pt"
    torch.save({"0.weight": Malicious(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"is refused: .*would run code"):
        load_checkpoint(net(), path)
    assert not marker.exists()


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "header-only", "text", "missing", "directory"])
def test_damaged_files_give_one_error(damage: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pt":
        torch.save(net().state_dict(), path)
    else:
        save_file(net().state_dict(), path)
    data = path.read_bytes()
    path.unlink()
    contents = {"empty": b"", "truncated": data[: len(data) // 2], "header-only": data[:4], "text": b"hello\n" * 50}
    if damage == "directory":
        path.mkdir()
    elif damage in contents:
        path.write_bytes(contents[damage])
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(net(), path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(4, 3, 1, 1, dtype=torch.int8), r"1 of another kind of number \(0.weight\)"),
        (torch.zeros(4, 3, 1, 1, dtype=torch.complex64), "'0.weight' is no plain dense tensor of real numbers"),
        (torch.zeros(4, 3, 1, 1).to_sparse(), "'0.weight' is no plain dense tensor of real numbers"),
        (torch.zeros(4, 3, 1, 1, device="meta"), "'0.weight' is no plain dense tensor of real numbers"),
    ],
    ids=["int8", "complex", "sparse", "meta"],
)
def test_tensors_that_would_load_as_something_else(tensor: torch.Tensor, message: str, tmp_path: Path) -> None:
    torch.save(net().state_dict() | {"0.weight": tensor}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(net(), tmp_path / "w.pt")


def test_one_weight_under_two_names_is_refused(tmp_path: Path) -> None:
    state = net().state_dict()
    torch.save(state | {f"module.{name}": torch.zeros_like(t) for name, t in state.items()}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"holds '0\.weight' twice"):
        load_checkpoint(net(), tmp_path / "w.pt")


def test_text_and_cut_legacy_files_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            load_checkpoint(net(), path)
    path.write_text("epoch,loss\n1,2\n")
    with pytest.raises(CheckpointError, match=r"w\.pt"):
        load_checkpoint(net(), path)


def test_wrappers_in_wrappers(tmp_path: Path) -> None:
    source, target = net(), net()
    torch.save({"model": {"state_dict": source.state_dict()}}, tmp_path / "w.pt")
    load_checkpoint(target, tmp_path / "w.pt")
    assert torch.equal(source[0].weight, target[0].weight)


@pytest.mark.parametrize("content", [[1, 2], {}, {"weight": [1.0]}, {1: torch.zeros(1)}, torch.zeros(2)], ids=repr)
def test_what_is_no_state_dict_is_said_so(content: object, tmp_path: Path) -> None:
    path = tmp_path / "odd.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="dictionary of tensors"):
        load_checkpoint(net(), path)


def test_a_path_may_be_text(tmp_path: Path) -> None:
    model = nn.Conv2d(3, 4, 1)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    assert (
        load_checkpoint(nn.Conv2d(3, 4, 1), str(tmp_path / "w.pt")).layout
        == load_checkpoint(nn.Conv2d(3, 4, 1), tmp_path / "w.pt").layout
    )


def test_parameters_without_a_shape(tmp_path: Path) -> None:
    torch.save(nn.Conv2d(3, 4, 1).state_dict(), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="has parameters without a shape yet"):
        load_checkpoint(nn.LazyConv2d(4, 1), tmp_path / "w.pt")
