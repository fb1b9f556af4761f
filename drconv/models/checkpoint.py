"""Read weights from a file without running code from it, and put them into a model strictly."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from drconv.errors import CheckpointError

__all__ = ["load_checkpoint", "read_state_dict"]

_WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Keys under which training scripts keep the state dict."""


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Load weights into a model; every name and shape must fit.

    Args:
        model: receives the weights, on its own device.
        path: a `.safetensors` file, or a torch file of tensors (a state dict, or one under "state_dict" or "model").

    Raises:
        CheckpointError: the file cannot be read, holds code, or belongs to another model.
    """
    own = model.state_dict()
    state = {name if name in own else _unwrapped(name): tensor for name, tensor in read_state_dict(path).items()}
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    shapes = [name for name in own if name in state and own[name].shape != state[name].shape]
    problems = []
    for label, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)):
        if names:
            listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            problems.append(f"{len(names)} {label} ({listed})")
    if problems:
        fitting = len(own) - len(missing) - len(shapes)
        raise CheckpointError(
            f"{path} does not fit {type(model).__name__}: {fitting} of {len(own)} tensors match; {'; '.join(problems)}"
        )
    model.load_state_dict(state)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint.

    Raises:
        CheckpointError: the file cannot be read, or is more than tensors in a dictionary.
    """
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise CheckpointError(f"checkpoint {path} {what}; expected a .safetensors or torch file")
    found: object = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for key in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found:
        raise CheckpointError(f"{path} holds a {type(found).__name__}, not a dictionary of tensors")
    state = {}
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: entry {name!r} is a {type(value).__name__}; expected a dictionary of tensors"
            )
        state[name] = value
    return state


def _unwrapped(name: str) -> str:
    """Take off what DistributedDataParallel and torch.compile put before a name, in either order."""
    for prefix in ("module.", "_orig_mod."):
        if name.startswith(prefix):
            return _unwrapped(name.removeprefix(prefix))
    return name


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {_first_line(error)}") from error


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is refused: it is damaged, or more than tensors (unpickling it would run code); save "
            "model.state_dict() with torch.save, or as safetensors"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a readable torch file: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0]
