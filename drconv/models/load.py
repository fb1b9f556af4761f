"""From what a user writes to a model.

A registered name, `timm:NAME`, `torchvision:NAME`, `package.module:factory`, `path/file.py:factory`, a `.safetensors`
file that says which model it is for, or `demo`.
"""

from pathlib import Path
from typing import Any

from torch import nn

from drconv.errors import ArgumentError
from drconv.models.build import build_model
from drconv.models.collection import COLLECTIONS, timm_input_size
from drconv.models.demo import DEMO, DEMO_WEIGHTS
from drconv.models.registry import MODELS, InputSize, default_input_size
from drconv.models.weights import described_without_code, load_described

__all__ = ["has_random_weights", "input_size_of", "is_weights_file", "load_model", "weights_file"]


def load_model(spec: str, **arguments: Any) -> nn.Module:
    """Build the model that a specification names.

    Args:
        spec: a name from `list_models()`; or `timm:NAME` or `torchvision:NAME`, if these are installed; or
            `where:factory`, where being an importable module or a Python file, and factory a function or class without
            required arguments that gives an `nn.Module` (or such a module itself). Modules are also looked for in the
            current directory. The code of that file or module is run. Or a `.safetensors` file as `drconv train` writes
            it, which says which model it is for; `demo` is the one that ships with the package.
        **arguments: keywords of the builder or factory; a file of weights takes none.

    Returns:
        The model: with random weights if it has a name, those of the file if it is one, else as the factory made it.
        Nothing is downloaded.

    Raises:
        UnknownNameError: no model or factory has that name.
        ModelError: the file, module or collection cannot be found or run, or the factory gives no `nn.Module`.
        CheckpointError: the file of weights cannot be read, or does not say which model it is for.
    """
    if not is_weights_file(spec):
        return build_model(spec, **arguments)
    if arguments:
        raise ArgumentError(f"{spec} holds a finished model, which takes no {', '.join(arguments)}")
    return load_described(weights_file(spec))[0]


def is_weights_file(spec: str) -> bool:
    """Return whether a specification is a file of weights."""
    return spec == DEMO or spec.endswith(".safetensors")


def weights_file(spec: str) -> Path:
    """Return the file that a specification is, if it is one."""
    return DEMO_WEIGHTS if spec == DEMO else Path(spec)


def has_random_weights(spec: str) -> bool:
    """Return whether `load_model` gives a model with freshly drawn weights: one with a name, not from a factory."""
    return spec in MODELS or (":" in spec and spec.partition(":")[0] in COLLECTIONS)


def input_size_of(spec: str, model: nn.Module) -> InputSize:
    """Return the size of the images that a model was made for, (C, H, W).

    Args:
        spec: what `load_model` was given.
        model: what it gave. A model of timm carries its size, whoever made it.

    Returns:
        The registered size, timm's, or else (3, 224, 224).
    """
    if is_weights_file(spec):
        return described_without_code(weights_file(spec)).input_size
    if spec in MODELS:
        return default_input_size(spec)
    return timm_input_size(model) or (3, 224, 224)
