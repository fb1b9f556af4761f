"""Read weights from a file without running code from it, and put them into a model strictly."""

import pickle
import stat
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
    state: dict[str, Tensor] = {}
    for name, tensor in read_state_dict(path).items():
        fitting_name = name if name in own else _unwrapped(name)
        if fitting_name in state:
            raise CheckpointError(
                f"{path} holds {fitting_name!r} twice, once with a wrapper's prefix; save one of them"
            )
        state[fitting_name] = tensor
    differences = _differences(own, state)
    if differences:
        listed = (
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for what, names in differences.items()
        )
        fitting = sum(name in state for name in own) - sum(
            len(names) for what, names in differences.items() if what.startswith("of another")
        )
        raise CheckpointError(
            f"{path} does not fit {type(model).__name__}: {fitting} of {len(own)} tensors match; {'; '.join(listed)}"
        )
    model.load_state_dict(state)


def _differences(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Return what keeps a state dict from fitting: kind of difference -> names, each name once."""
    both = [name for name in own if name in state]
    shapes = [name for name in both if own[name].shape != state[name].shape]
    numbers = [name for name in both if own[name].is_floating_point() != state[name].is_floating_point()]
    found = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "of another shape": shapes,
        "of another kind of number": [name for name in numbers if name not in shapes],
    }
    return {what: names for what, names in found.items() if names}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint.

    Raises:
        CheckpointError: the file cannot be read, or is more than tensors in a dictionary.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise CheckpointError(f"checkpoint {path} {reason}; expected a .safetensors or torch file") from None
    if not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        raise CheckpointError(f"checkpoint {path} is {what}; expected a .safetensors or torch file")
    found: object = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for _ in _WRAPPERS:
        inner = [found[key] for key in _WRAPPERS if isinstance(found, Mapping) and isinstance(found.get(key), Mapping)]
        found = inner[0] if inner else found
    if not isinstance(found, Mapping) or not found:
        raise CheckpointError(f"{path} holds a {type(found).__name__}, not a dictionary of tensors")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            got = f"entry {name!r} is a {type(value).__name__}"
            raise CheckpointError(f"{path}: {got}; expected a dictionary of tensors")
        # A nested tensor has no shape to ask for, so it is looked for first.
        if (
            value.is_nested
            or value.layout != torch.strided
            or value.is_quantized
            or value.is_meta
            or value.is_complex()
        ):
            raise CheckpointError(f"{path}: entry {name!r} is no plain dense tensor of real numbers")
    return dict(found)


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
    except Exception as error:  # the legacy reader meets damaged data with almost any exception
        raise CheckpointError(f"{path} is not a readable torch file: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0]
