"""From what a user writes to a model.

A registered name, `timm:NAME`, `torchvision:NAME`, `package.module:factory` or `path/file.py:factory`.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from torch import nn

from drconv.errors import ModelError
from drconv.models.collection import COLLECTIONS, timm_input_size
from drconv.models.registry import MODELS, InputSize, create_model, default_input_size
from drconv.registry import unknown_name

__all__ = ["has_random_weights", "input_size_of", "load_model"]

T = TypeVar("T")


def load_model(spec: str) -> nn.Module:
    """Build the model that a specification names.

    Args:
        spec: a name from `list_models()`; or `timm:NAME` or `torchvision:NAME`, if these are installed; or
            `where:factory`, where being an importable module or a Python file, and factory a function or class without
            required arguments that gives an `nn.Module` (or such a module itself). Modules are also looked for in the
            current directory. The code of that file or module is run.

    Returns:
        The model: with random weights if it has a name, else as the factory made it. Nothing is downloaded.

    Raises:
        UnknownNameError: no model or factory has that name.
        ModelError: the file, module or collection cannot be found or run, or the factory gives no `nn.Module`.
    """
    collection, colon, name = spec.partition(":")
    if colon and collection in COLLECTIONS:
        return _run(spec, COLLECTIONS[collection].builder(name))
    where, colon, factory = spec.rpartition(":")
    if not colon:
        if spec.endswith(".py") or "/" in spec:
            raise ModelError(f"{spec!r} names a file but no factory; write {spec}:factory")
        if spec not in MODELS:
            raise unknown_name("model", spec, MODELS)
        return create_model(spec)
    if not where or not factory:
        raise ModelError(f"expected module:factory or file.py:factory, got {spec!r}")
    module = _run(spec, lambda: _load_module(where))
    if not hasattr(module, factory):
        raise unknown_name(f"factory in {where}", factory, [n for n in vars(module) if not n.startswith("_")])
    made = getattr(module, factory)
    if not isinstance(made, nn.Module):
        if not callable(made):
            raise ModelError(f"{spec} is a {type(made).__name__}; expected a function or class that gives an nn.Module")
        made = _run(spec, made)
    if not isinstance(made, nn.Module):
        raise ModelError(f"{spec} gave a {type(made).__name__}; expected an nn.Module")
    return made


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
    if spec in MODELS:
        return default_input_size(spec)
    return timm_input_size(model) or (3, 224, 224)


def _load_module(where: str) -> ModuleType:
    if where.endswith(".py"):
        path = Path(where)
        if not path.is_file():
            raise ModelError(f"no file {where!r}; expected path/file.py:factory")
        name = f"drconv_user_{path.stem}"
        found = importlib.util.spec_from_file_location(name, path)
        if found is None or found.loader is None:
            raise ModelError(f"{where!r} cannot be imported as Python")
        module = importlib.util.module_from_spec(found)
        # Dataclasses and pickles look a module up by name.
        sys.modules[name] = module
        # As for a script: what lies beside the file can be imported.
        _search(path.parent)
        found.loader.exec_module(module)
        return module
    # A console script does not have the current directory on its path; `python -m` does.
    _search(Path.cwd())
    return importlib.import_module(where)


def _search(folder: Path) -> None:
    if str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))


def _run(spec: str, call: Callable[[], T]) -> T:
    """Run a user's code; whatever it raises becomes one line that names it."""
    try:
        return call()
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        first_line = (str(error).strip() or "no message").partition("\n")[0]
        raise ModelError(f"{spec} failed: {type(error).__name__}: {first_line}") from error
