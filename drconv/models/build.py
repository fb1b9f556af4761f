"""From a name or a place of code to a model.

A registered name, `timm:NAME`, `torchvision:NAME`, `package.module:factory` or `path/file.py:factory`.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from torch import nn

from drconv.errors import ArgumentError, ModelError
from drconv.models.collection import COLLECTIONS
from drconv.models.registry import MODELS, create_model
from drconv.registry import unknown_name

__all__ = ["build_model"]

T = TypeVar("T")


def build_model(spec: str, **arguments: Any) -> nn.Module:
    """Build the model that a name or a factory gives.

    Args:
        spec: as `drconv.models.load_model` takes it, a file of weights excepted.
        **arguments: keywords of the builder or factory; a collection's models take `num_classes` alone.

    Raises:
        UnknownNameError: no model or factory has that name.
        ArgumentError: the builder does not take these arguments.
        ModelError: the file, module or collection cannot be found or run, or the factory gives no `nn.Module`.
    """
    collection, colon, name = spec.partition(":")
    if colon and collection in COLLECTIONS:
        unknown = sorted(set(arguments) - {"num_classes"})
        if unknown:
            raise ArgumentError(f"{spec} takes num_classes alone, got {', '.join(unknown)}")
        return _run(spec, COLLECTIONS[collection].builder(name, **arguments))
    where, colon, factory = spec.rpartition(":")
    if not colon:
        if spec.endswith(".py") or "/" in spec:
            raise ModelError(f"{spec!r} names a file but no factory; write {spec}:factory")
        if spec not in MODELS:
            raise unknown_name("model", spec, MODELS)
        return create_model(spec, **arguments)
    if not where or not factory:
        raise ModelError(f"expected module:factory or file.py:factory, got {spec!r}")
    module = _run(spec, lambda: _load_module(where))
    if not hasattr(module, factory):
        raise unknown_name(f"factory in {where}", factory, [n for n in vars(module) if not n.startswith("_")])
    return _made(spec, getattr(module, factory), arguments)


def _made(spec: str, factory: Any, arguments: dict[str, Any]) -> nn.Module:
    """Return what a factory makes, or a module that stands where a factory could."""
    if not isinstance(factory, nn.Module) and not callable(factory):
        raise ModelError(f"{spec} is a {type(factory).__name__}; expected a function or class that gives an nn.Module")
    if arguments:
        _check_takes(spec, factory, arguments)
    if isinstance(factory, nn.Module):
        return factory
    made = _run(spec, lambda: factory(**arguments))
    if not isinstance(made, nn.Module):
        raise ModelError(f"{spec} gave a {type(made).__name__}; expected an nn.Module")
    return made


def _check_takes(spec: str, factory: Any, arguments: dict[str, Any]) -> None:
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    if isinstance(factory, nn.Module):
        raise ArgumentError(f"{spec} is a finished module, which takes no {given}; name a factory that does")
    try:
        signature(factory).bind(**arguments)
    except TypeError as error:
        raise ArgumentError(f"{spec} must take {given}: {error}") from None
    except ValueError:  # no signature to look at; the call itself will tell
        return


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
