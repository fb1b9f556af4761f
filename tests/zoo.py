"""The optional collections of models, for the tests that need them.

Missing ones skip, unless `DRCONV_REQUIRE_ZOO` is set.
"""

import os
from types import ModuleType

import pytest

from drconv.errors import ModelError
from drconv.models.collection import COLLECTIONS

__all__ = ["need"]


def need(name: str) -> ModuleType:
    """Import torchvision or timm, or skip the test."""
    try:
        return COLLECTIONS[name]._load()
    except ModelError as error:
        if os.environ.get("DRCONV_REQUIRE_ZOO"):
            raise
        pytest.skip(str(error))
