"""From what a user writes to a model: a registered name, `package.module:factory` or `path/file.py:factory`."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from torch import nn

from drconv.errors import ModelError
from drconv.models.registry import MODELS, create_model
from drconv.registry import unknown_name

__all__ = ["load_model"]

T = TypeVar("T")


def load_model(spec: str) -> nn.Module:
    """Build the model that a specification names.

    Args:
        spec: a name from `list_models()`, or `where:factory`, where being an importable module or a Python file, and
            factory a function or class without required arguments that gives an `nn.Module` (or such a module itself).
            Modules are also looked for in the current directory. The code of that file or module is run.

    Returns:
        The model, as the factory made it.

    Raises:
        UnknownNameError: no model or factory has that name.
        ModelError: the file or module cannot be found or run, or the factory gives no `nn.Module`.
    """
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
