"""The state of a trainer as bytes and back: tensors as safetensors, everything else as JSON in the metadata.

No code is run by reading it. What decides the last bit is recorded, and compared when training goes on.
"""

import json
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from drconv.analysis import numerics
from drconv.errors import CheckpointError, DrconvError
from drconv.models import METADATA_KEY, ModelDescription, load_state, read_metadata
from drconv.training.tally import Tally
from drconv.training.trainer import Data, Trainer

__all__ = ["SavedState", "data_identity", "pack", "read_state", "restore"]

_KEY = "drconv_training"
_SCHEMA = 1


@dataclass(frozen=True, eq=False)
class SavedState:
    """What a checkpoint of training holds.

    Attributes:
        path: of the file.
        about: all but the tensors.
        tensors: by part and name, such as "model/fc.weight".
    """

    path: Path
    about: dict[str, Any]
    tensors: dict[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of one part by their names in it."""
        start = f"{name}/"
        return {key.removeprefix(start): t for key, t in self.tensors.items() if key.startswith(start)}


def data_identity(data: Data) -> dict[str, Any]:
    """Return what must be the same for training to go on with data; JSON-ready.

    A folder may have moved; what counts is which files are in it.
    """
    listing = getattr(data, "listing", None)
    return {
        **({"name": data.name} if listing is None else {"listing": listing}),
        "class_names": list(data.class_names),
        "training_images": len(data.train),
        "validation_images": len(data.validation),
    }


def pack(trainer: Trainer, description: ModelDescription) -> bytes:
    """Return the state of a trainer between two steps, as the bytes of a safetensors file."""
    tensors = {f"model/{name}": t for name, t in trainer.model.state_dict().items()}
    if trainer.average is not None:
        tensors |= {f"average/{name}": t for name, t in trainer.average.model.state_dict().items()}
    for index, values in trainer.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": t for name, t in values.items() if isinstance(t, Tensor)}
    about = {
        "schema": _SCHEMA,
        "options": trainer.options.to_dict(),
        "data": data_identity(trainer.data),
        "numerics": numerics(trainer.team.device, trainer.team.count),
        "epoch": trainer.epoch,
        "step": trainer.step,
        "tallies": [tally.to_dict() for tally in trainer.team.gather(trainer.tally)],
        "gradient_norms": trainer.gradient_norms,
        "average_updates": None if trainer.average is None else trainer.average.updates,
        "temperature": None if trainer.temperature is None else trainer.temperature.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "history": trainer.history,
    }
    # Copies: safetensors takes neither views nor tensors that share memory.
    copies = {name: t.detach().to("cpu").contiguous().clone() for name, t in tensors.items()}
    return save(copies, metadata={METADATA_KEY: description.to_json(), _KEY: json.dumps(about, sort_keys=True)})


def read_state(path: str | PathLike[str]) -> SavedState:
    """Read a checkpoint of training.

    Raises:
        CheckpointError: the file cannot be read, or is none.
    """
    text = read_metadata(path).get(_KEY)
    if text is None:
        raise CheckpointError(f"{path} is no checkpoint of training; `drconv train` writes checkpoint.safetensors")
    try:
        about = json.loads(text)
        schema = about["schema"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: its state is no JSON of ours ({error})") from error
    if schema != _SCHEMA:
        raise CheckpointError(f"{path} is of schema {schema!r}, and this release goes on from {_SCHEMA}")
    return SavedState(Path(path), about, load_file(path))


def restore(trainer: Trainer, saved: SavedState, description: ModelDescription) -> list[str]:
    """Put a trainer where a checkpoint was made, thread count included.

    Args:
        trainer: fresh, of the same model, data and options.
        saved: the checkpoint.
        description: of the trainer's model.

    Returns:
        Why the result may differ in its last bits from that of an uninterrupted run, one line each; empty on a CPU
        where nothing that matters has changed.

    Raises:
        CheckpointError: the checkpoint is of another model, other data or other options.
    """
    try:
        return _restored(trainer, saved, description)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, DrconvError):
            raise
        raise CheckpointError(
            f"{saved.path} is damaged: its state lacks something, or has it in another form "
            f"({type(error).__name__}: {error}); use another --output, or --force to start anew"
        ) from error


def _restored(trainer: Trainer, saved: SavedState, description: ModelDescription) -> list[str]:
    found = saved.about
    _check_model(saved, description)
    _check_same(saved.path, "other data", found["data"], data_identity(trainer.data))
    _check_same(saved.path, "other options", found["options"], trainer.options.to_dict())
    _check_place(trainer, found)
    load_state(trainer.model, saved.part("model"), saved.path)
    if trainer.average is not None:
        load_state(trainer.average.model, saved.part("average"), saved.path)
        trainer.average.updates = found["average_updates"]
    _restore_optimizer(trainer, saved.part("optimizer"))
    if trainer.temperature is not None:
        trainer.temperature.load_state_dict(found["temperature"])
    trainer.scaler.load_state_dict(found["scaler"])
    trainer.epoch, trainer.step = found["epoch"], found["step"]
    trainer.history, trainer.gradient_norms = found["history"], found["gradient_norms"]
    trainer.tally = _share_of_tallies(trainer, [Tally.from_dict(values) for values in found["tallies"]])
    if trainer.team.device.type == "cpu":
        torch.set_num_threads(int(found["numerics"]["threads"]))
    return _differences(found["numerics"], numerics(trainer.team.device, trainer.team.count))


def _check_model(saved: SavedState, description: ModelDescription) -> None:
    theirs = ModelDescription.from_json(read_metadata(saved.path).get(METADATA_KEY, ""), saved.path)
    if theirs.model != description.model:
        raise CheckpointError(
            f"{saved.path} is of another model: {theirs.model}, and this run trains {description.model}; use another "
            "--output, or --force to start anew"
        )
    ours, other = (json.loads(replace(d, trained={}).to_json()) for d in (description, theirs))
    _check_same(saved.path, f"another {description.model}", other, ours)


def _check_same(path: Path, what: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    names = [name for name in ours if theirs.get(name) != ours[name]]
    if names:
        listed = "; ".join(f"{name} is {theirs.get(name)!r} there and {ours[name]!r} here" for name in names[:4])
        raise CheckpointError(f"{path} is of {what}: {listed}; use another --output, or --force to start anew")


def _check_place(trainer: Trainer, found: dict[str, Any]) -> None:
    """Raise where a state is at no place of this training, or lacks what was counted on the way.

    Raises:
        ValueError: it does.
    """
    for name, largest in (("epoch", trainer.options.epochs), ("step", trainer.steps_per_epoch)):
        if type(found[name]) is not int or not 0 <= found[name] <= largest:
            raise ValueError(f"{name} {found[name]!r} of {largest}")
    if len(found["history"]) != found["epoch"] or not all("validation" in record for record in found["history"]):
        raise ValueError(f"no record of each of {found['epoch']} epochs")
    if not found["tallies"] or int(found["numerics"]["threads"]) < 1:
        raise ValueError("counts of no process, or no thread")


def _restore_optimizer(trainer: Trainer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split("/")
        state.setdefault(int(index), {})[name] = tensor
    parameters = [parameter for group in trainer.optimizer.param_groups for parameter in group["params"]]
    for number, values in state.items():
        for name, tensor in values.items():
            if tensor.dim() and tensor.shape != parameters[number].shape:
                raise ValueError(f"optimizer/{number}/{name} is of another shape")
    groups = trainer.optimizer.state_dict()["param_groups"]
    trainer.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _share_of_tallies(trainer: Trainer, tallies: list[Tally]) -> Tally:
    """Return what this process goes on counting; with another number of processes the first takes all."""
    if len(tallies) == trainer.team.count:
        return tallies[trainer.team.rank]
    mine = Tally(trainer.data.num_classes)
    for tally in tallies if trainer.team.leads else []:
        mine.merge(tally)
    return mine


def _differences(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    found = [f"{name} was {theirs.get(name)} and is {ours[name]}" for name in ours if theirs.get(name) != ours[name]]
    if ours["device"] != "cpu":
        found.append(f"{ours['device']} does not promise the same bits from run to run")
    return [f"the result may differ in its last bits from that of an uninterrupted run: {line}" for line in found]
