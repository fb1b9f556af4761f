"""Files of weights that know their model: written atomically, and loaded without being told what they are."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save
from torch import Tensor, nn

from drconv.atomic_write import write_atomically
from drconv.errors import CheckpointError
from drconv.models.checkpoint import load_state, read_metadata, read_state_dict
from drconv.models.description import METADATA_KEY, ModelDescription, build_described

__all__ = ["SaveDtype", "load_described", "read_description", "save_weights"]

SaveDtype = Literal["float32", "bfloat16"]


def save_weights(
    path: str | PathLike[str],
    state: Mapping[str, Tensor],
    description: ModelDescription,
    dtype: SaveDtype = "float32",
) -> None:
    """Write weights as safetensors with the description of their model in the metadata.

    The same weights and description give the same bytes. The file is written whole or not at all.

    Args:
        path: of the file, ending in `.safetensors`.
        state: a state dict.
        description: of the model that it fits.
        dtype: of tensors with two axes or more. Vectors (biases, statistics of norms) stay float32: they are few, and
            count most. Integers stay as they are.

    Raises:
        FileError: the file cannot be written; the one before is kept.
    """
    wide, vectors = getattr(torch, dtype), torch.float32
    tensors = {
        name: (t.detach().to("cpu", (wide if t.dim() > 1 else vectors) if t.is_floating_point() else t.dtype))
        for name, t in state.items()
    }
    # Contiguous copies: safetensors refuses tensors that share memory.
    copies = {name: t.contiguous().clone() for name, t in tensors.items()}
    write_atomically(Path(path), save(copies, metadata={METADATA_KEY: description.to_json()}))


def read_description(path: str | PathLike[str]) -> ModelDescription | None:
    """Return what a file says about its model; None if it says nothing.

    Raises:
        CheckpointError: the file cannot be read, or its description is damaged.
    """
    text = read_metadata(path).get(METADATA_KEY)
    return None if text is None else ModelDescription.from_json(text, path)


def load_described(path: str | PathLike[str]) -> tuple[nn.Module, ModelDescription]:
    """Build the model that a file of weights describes, and load the weights into it.

    No code of a user's is run: a model that came from a file or module of theirs has to be named by hand.

    Returns:
        The model, on the CPU, and its description.

    Raises:
        CheckpointError: the file cannot be read, says not which model it is for, or names a user's code.
    """
    description = described_without_code(path)
    model = build_described(description)
    load_state(model, read_state_dict(path), Path(path))
    return model, description


def described_without_code(path: str | PathLike[str]) -> ModelDescription:
    """Return the description of a model that can be built from names alone.

    Raises:
        CheckpointError: as `load_described`.
    """
    description = read_description(path)
    if description is None:
        raise CheckpointError(f"{path} does not say which model it is for; name the model and give it as --checkpoint")
    if description.runs_code:
        raise CheckpointError(
            f"{path} is for {description.model}, and a file of weights runs no code; name that model and give the file "
            "as --checkpoint"
        )
    return description
