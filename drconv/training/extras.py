"""Parts of training that stand on optional packages, and what to say when one is missing."""

from importlib import import_module
from types import ModuleType

from drconv.errors import DrconvError

__all__ = ["load_extra"]


def load_extra(module: str, purpose: str) -> ModuleType:
    """Import a module of ours that needs a package of the extra `train`.

    Args:
        module: full name.
        purpose: what the package is for, as the start of a sentence.

    Raises:
        DrconvError: the package is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("drconv"):
            raise
        package = error.name.partition(".")[0]
        raise DrconvError(
            f"{purpose} needs what the extra 'train' installs, and there is no {package}; pip install 'drconv[train]'"
        ) from None
