"""The optional model collections, for the tests that need them; missing ones skip, unless `DRCONV_REQUIRE_ZOO` is set.

The suite's environment has them without their dependencies, so that they do not choose the version of torch. The
compiled part of torchvision then does not fit and declares no operator; the models need none, only its name.
"""

import importlib
import os
import sys
from types import ModuleType

import pytest
import torch

__all__ = ["need"]

_KEPT: list[torch.library.Library] = []


def need(name: str) -> ModuleType:
    """Import torchvision or timm, or skip the test."""
    try:
        _load_torchvision()
        return importlib.import_module(name)
    except ImportError as error:
        if os.environ.get("DRCONV_REQUIRE_ZOO"):
            raise
        pytest.skip(f"{name} is not installed: {error}")


def _load_torchvision() -> None:
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for module in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
        importlib.import_module("torchvision")
