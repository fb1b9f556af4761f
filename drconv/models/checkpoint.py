"""Read weights from a file without running code from it, and put them into a model strictly."""

import pickle
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from drconv.errors import CheckpointError
from drconv.models.foreign import LAYOUTS, recognise
from drconv.report import Column, Table

__all__ = [
    "CheckpointReport",
    "LoadedTensor",
    "fits_by_name",
    "load_checkpoint",
    "load_state",
    "read_metadata",
    "read_state_dict",
]

_WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Keys under which training scripts keep the state dict."""

_OWN = "own"

_TRAINING_PARTS = ("average/", "model/")
"""Where `drconv train` keeps weights in its checkpoints: averaged over steps if asked for, which then count."""


@dataclass(frozen=True)
class LoadedTensor:
    """One tensor of a checkpoint: its name and shape there, and its name in the model."""

    theirs: str
    ours: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class CheckpointReport:
    """What was loaded from where to where.

    Attributes:
        path: of the file.
        layout: a name from `drconv.models.foreign.LAYOUTS`, or "own".
        tensors: all of the file, in its order.
    """

    path: str
    layout: str
    tensors: tuple[LoadedTensor, ...]

    @property
    def is_foreign(self) -> bool:
        """Whether names and shapes had to be translated."""
        return self.layout != _OWN

    @property
    def summary(self) -> str:
        """One line: how many tensors, in which layout."""
        return f"{self.path}: {len(self.tensors)} tensors in the {self.layout} layout, all matched"

    def to_table(self) -> Table:
        """Return one row per tensor."""
        rows = tuple((x.theirs, x.ours, "x".join(map(str, x.shape)) or "number") for x in self.tensors)
        columns = (Column("in the file"), Column("in the model"), Column("shape in the file"))
        return Table(f"Tensors of {self.path}, {self.layout} layout", columns, rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the tensors as a list."""
        tensors = [{"theirs": x.theirs, "ours": x.ours, "shape": list(x.shape)} for x in self.tensors]
        return {"path": self.path, "layout": self.layout, "tensors": tensors}


def load_checkpoint(model: nn.Module, path: str | PathLike[str]) -> CheckpointReport:
    """Load weights into a model; every name and shape must fit.

    Weights of other people's DRConv are recognised by their names and translated (`drconv.models.foreign`); then, too,
    every tensor of the file must have its place and every one of the model must be in the file.

    Args:
        model: receives the weights, on its own device.
        path: a `.safetensors` file, or a torch file of tensors (a state dict, or one under "state_dict" or "model").

    Returns:
        Which tensor went where.

    Raises:
        CheckpointError: the file cannot be read, holds code, or belongs to another model.
    """
    return load_state(model, read_state_dict(path), Path(path))


def load_state(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> CheckpointReport:
    """Load what `read_state_dict` gave, as `load_checkpoint` does; `path` is for messages."""
    own = model.state_dict()
    lazy = [name for name, tensor in own.items() if is_lazy(tensor)]
    if lazy:
        raise CheckpointError(
            f"{path}: {type(model).__name__} has parameters without a shape yet ({lazy[0]}); run the model once before"
        )
    layout, names = _our_names(own, state, path)
    ours = {ours: state[theirs] for theirs, ours in names.items()}
    of_layout = ""
    if layout != _OWN:
        ours = {name: LAYOUTS[layout].reshape(t, own[name].shape) if name in own else t for name, t in ours.items()}
        of_layout = f", in the {layout} layout ({LAYOUTS[layout].owner}),"
    differences = _differences(own, ours)
    if differences:
        listed = (
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for what, names in differences.items()
        )
        fitting = sum(name in ours for name in own) - sum(
            len(names) for what, names in differences.items() if what.startswith("of another")
        )
        raise CheckpointError(
            f"{path}{of_layout} does not fit {type(model).__name__}: {fitting} of {len(own)} tensors match; "
            f"{'; '.join(listed)}"
        )
    model.load_state_dict(ours)
    tensors = (LoadedTensor(theirs, name, tuple(state[theirs].shape)) for theirs, name in names.items())
    return CheckpointReport(str(path), layout, tuple(tensors))


def fits_by_name(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> bool:
    """Return whether a state dict has exactly the names of a model's tensors, be it in another layout."""
    own = model.state_dict()
    return set(_our_names(own, state, path)[1].values()) == set(own)


def _our_names(own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> tuple[str, dict[str, str]]:
    """Return the layout of a state dict, and each of its names -> the model's."""
    plain = {name: name if name in own else _unwrapped(name) for name in state}
    layout = None if set(plain.values()) == set(own) else recognise(set(plain.values()) - set(own))
    if layout is not None:
        plain = {theirs: name if name in own else LAYOUTS[layout].rename(name) for theirs, name in plain.items()}
    seen: set[str] = set()
    for name in plain.values():
        if name in seen:
            raise CheckpointError(f"{path} holds {name!r} twice, once with a wrapper's prefix; save one of them")
        seen.add(name)
    return layout or _OWN, plain


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


def read_state_dict(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint.

    Raises:
        CheckpointError: the file cannot be read, or is more than tensors in a dictionary.
    """
    path = _checked_file(path)
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


def read_metadata(path: str | PathLike[str]) -> dict[str, str]:
    """Return the texts that a safetensors file carries beside its tensors; none for a torch file.

    Raises:
        CheckpointError: the file cannot be read.
    """
    path = _checked_file(path)
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {_first_line(error)}") from error


def _checked_file(path: str | PathLike[str]) -> Path:
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise CheckpointError(f"checkpoint {path} {reason}; expected a .safetensors or torch file") from None
    if not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        raise CheckpointError(f"checkpoint {path} is {what}; expected a .safetensors or torch file")
    return path


def _unwrapped(name: str) -> str:
    """Take off what DistributedDataParallel and torch.compile put before a name, in either order."""
    for prefix in ("module.", "_orig_mod."):
        if name.startswith(prefix):
            return _unwrapped(name.removeprefix(prefix))
    return name


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        found = load_file(path)
        for part in _TRAINING_PARTS:
            if any(name.startswith(part) for name in found):
                return {name.removeprefix(part): t for name, t in found.items() if name.startswith(part)}
        return found
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
