"""Interrupted and continued is the same as never interrupted, bit for bit; and what may not be continued is refused."""

import errno
import json
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from drconv.errors import CheckpointError, FileError, StoppedError
from drconv.models import ModelDescription, read_state_dict
from drconv.training import RunFiles, Trainer, TrainingOptions, run_training
from drconv.training.state import read_state, restore
from tests.training.tiny import TinyData, TinyImages, make

TINY = ModelDescription("tiny.py:make", {"num_classes": 3})
OPTIONS = TrainingOptions(epochs=3, batch_size=4, warmup_steps=2, seed=3)
VARIANTS = {
    "adamw with average": {"ema": 0.9},
    "sgd": {"optimizer": "sgd", "lr": 0.1, "schedule": "step", "milestones": (1, 2), "label_smoothing": 0.1},
    "bfloat16": {"precision": "bfloat16"},
}


def trainer(options: TrainingOptions = OPTIONS, workers: int = 0, data: TinyData | None = None) -> Trainer:
    torch.manual_seed(options.seed)
    return Trainer(make(), data or TinyData(), options, workers=workers)


def stops_at(call: int) -> Callable[[], bool]:
    """Return a question that is answered with yes the so-manieth time, steps and batches of validation counted."""
    calls = iter(range(1, 1_000_000))
    return lambda: next(calls) == call


def tensors_and_history(files: RunFiles) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    saved = read_state(files.checkpoint)
    history = [{key: value for key, value in r.items() if key != "seconds"} for r in saved.about["history"]]
    return saved.tensors, history


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopped_anywhere_and_resumed_ends_with_the_same_bits(variant: str, tmp_path: Path) -> None:
    options = replace(OPTIONS, **VARIANTS[variant])
    whole = RunFiles(tmp_path / "whole")
    run_training(trainer(options), TINY, whole)
    # The 6 steps of an epoch are followed by 3 batches of validation; this also stops in the middle of those.
    for call in (1, 5, 6, 8, 9 + 9 + 4) if variant.startswith("adamw") else (4,):
        files = RunFiles(tmp_path / f"stopped at {call}")
        with pytest.raises(StoppedError, match=r"checkpoint\.safetensors is written"):
            run_training(trainer(options), TINY, files, should_stop=stops_at(call))
        assert not files.weights.exists()
        torch.manual_seed(call)  # what the generator holds now must not matter
        torch.rand(call)
        run_training(trainer(options, workers=call in (4, 5)), TINY, files, resume=True)
        assert files.weights.read_bytes() == whole.weights.read_bytes(), call
        mine, theirs = tensors_and_history(files), tensors_and_history(whole)
        assert mine[0].keys() == theirs[0].keys()
        assert all(torch.equal(mine[0][name], theirs[0][name]) for name in mine[0])
        assert mine[1] == theirs[1]
        log = [json.loads(line) for line in files.log.read_text().splitlines()]
        assert [record["epoch"] for record in log] == [1, 2, 3]


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    """So that the test above does not hold for lack of learning."""
    for seed in (1, 2):
        files = RunFiles(tmp_path / str(seed))
        torch.manual_seed(0)
        run_training(Trainer(make(), TinyData(), replace(OPTIONS, seed=seed)), TINY, files)
    first, second = (read_state_dict(tmp_path / str(seed) / "weights.safetensors") for seed in (1, 2))
    assert any(not torch.equal(first[name], second[name]) for name in first if name.endswith("weight"))


def stopped(folder: Path, step: int = 3) -> RunFiles:
    files = RunFiles(folder)
    with pytest.raises(StoppedError):
        run_training(trainer(), TINY, files, should_stop=stops_at(step))
    return files


def test_the_thread_count_is_restored(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        # No more steps than need be: two threads that wait for each other in so small a network wait most of the time.
        files = stopped(tmp_path, step=1)
        torch.set_num_threads(1)
        notices: list[str] = []
        with pytest.raises(StoppedError):
            run_training(trainer(), TINY, files, resume=True, notice=notices.append, should_stop=stops_at(1))
        assert torch.get_num_threads() == 2
        assert len(notices) == 1
        assert "epoch 1, step 2" in notices[0]
    finally:
        torch.set_num_threads(before)


def test_another_instruction_set_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = stopped(tmp_path)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "ABACUS")
    notices: list[str] = []
    run_training(trainer(), TINY, files, resume=True, notice=notices.append)
    assert "may differ in its last bits" in notices[1]
    assert "and is ABACUS" in notices[1]


@pytest.mark.parametrize(
    ("description", "options", "data", "message"),
    [
        (replace(TINY, model="other.py:make"), OPTIONS, TinyData(), r"another model: tiny\.py:make, and this run"),
        (replace(TINY, arguments={"num_classes": 4}), OPTIONS, TinyData(), r"num_classes"),
        (TINY, replace(OPTIONS, lr=0.1), TinyData(), r"other options: lr is 0\.002 there and 0\.1 here"),
        (TINY, OPTIONS, TinyData(train=TinyImages(28)), r"other data: training_images is 24 there and 28 here"),
        (TINY, OPTIONS, TinyData(class_names=("a", "b", "c")), r"other data: class_names"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    description: ModelDescription, options: TrainingOptions, data: TinyData, message: str, tmp_path: Path
) -> None:
    files = stopped(tmp_path)
    kept = files.checkpoint.read_bytes()
    with pytest.raises(CheckpointError, match=message):
        run_training(trainer(options, data=data), description, files, resume=True)
    assert files.checkpoint.read_bytes() == kept


def test_a_damaged_checkpoint_and_one_that_is_none(tmp_path: Path) -> None:
    files = stopped(tmp_path)
    data = files.checkpoint.read_bytes()
    files.checkpoint.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        run_training(trainer(), TINY, files, resume=True)
    files.checkpoint.write_bytes(data)
    run_training(trainer(), TINY, files, resume=True)
    with pytest.raises(CheckpointError, match="no checkpoint of training"):
        read_state(files.weights)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epoch": None}, "epoch None of 3"),
        ({"epoch": 4}, "epoch 4 of 3"),
        ({"step": -1}, "step -1 of 6"),
        ({"history": [{}]}, "no record of each of 0 epochs"),
        ({"tallies": []}, "counts of no process"),
        ({"numerics": None}, "TypeError"),
    ],
)
def test_a_state_that_is_no_place_of_the_training(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    files = stopped(tmp_path, step=1)
    saved = read_state(files.checkpoint)
    with pytest.raises(CheckpointError, match=f"is damaged: .*{reason}"):
        restore(trainer(), replace(saved, about=saved.about | change), TINY)
    about = {name: value for name, value in saved.about.items() if name not in change}
    with pytest.raises(CheckpointError, match=f"is damaged: .*KeyError: '{next(iter(change))}'"):
        restore(trainer(), replace(saved, about=about), TINY)


def test_a_state_of_the_optimiser_that_does_not_fit(tmp_path: Path) -> None:
    saved = read_state(stopped(tmp_path, step=1).checkpoint)
    name = next(name for name, t in saved.tensors.items() if name.startswith("optimizer/") and t.dim() > 1)
    with pytest.raises(CheckpointError, match=f"{name} is of another shape"):
        restore(trainer(), replace(saved, tensors=saved.tensors | {name: torch.zeros(1)}), TINY)


def test_training_goes_on_where_its_folder_of_images_has_moved_to(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    here, there, other = (TinyData(name=name, listing=of) for name, of in (("a", "x"), ("b", "x"), ("a", "y")))
    with pytest.raises(StoppedError):
        run_training(trainer(data=here), TINY, files, should_stop=stops_at(1))
    with pytest.raises(CheckpointError, match="of other data: listing is 'x' there and 'y' here"):
        run_training(trainer(data=other), TINY, files, resume=True)
    run_training(trainer(data=there), TINY, files, resume=True)


def test_resume_without_a_checkpoint_starts(tmp_path: Path) -> None:
    report = run_training(trainer(), TINY, RunFiles(tmp_path), resume=True)
    assert [record["epoch"] for record in report.history] == [1, 2, 3]


def test_a_full_disk_loses_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = stopped(tmp_path)
    kept = files.checkpoint.read_bytes()

    def no_space(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(
            FileError, match=r"No space left on device; .*checkpoint.safetensors as it was before is kept"
        ):
            run_training(trainer(), TINY, files, resume=True, should_stop=stops_at(1))
    assert files.checkpoint.read_bytes() == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.safetensors"]
    run_training(trainer(), TINY, files, resume=True)


def test_a_limit_on_the_size_of_files_loses_no_checkpoint(tmp_path: Path) -> None:
    """A real failure of write(2), in the middle of the file."""
    files = stopped(tmp_path)
    kept = files.checkpoint.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) // 2, hard))
    try:
        with pytest.raises(FileError, match=r"File too large; .* is kept"):
            run_training(trainer(), TINY, files, resume=True, should_stop=stops_at(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files.checkpoint.read_bytes() == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.safetensors"]
