"""The environment of a timing: that of every result, and what moves times besides."""

import os
from typing import Any

import torch

from drconv.analysis.environment import environment
from drconv.kernels.native import library

__all__ = ["stamp"]

_ALLOCATOR = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "OMP_NUM_THREADS", "DRCONV_NATIVE_ISA", "LD_PRELOAD")
"""Variables that change how fast memory is had, or which code runs."""


def stamp(device: torch.device) -> dict[str, Any]:
    """Return versions and machine, the load on it now, the instruction set of the compiled kernels, and variables."""
    found = environment(device)
    if hasattr(os, "getloadavg"):
        found["load_average"] = [round(load, 2) for load in os.getloadavg()]
    if device.type == "cpu":
        found["native_isa"] = library.load().isa_name if library.why_not() is None else None
    found["variables"] = {name: os.environ[name] for name in _ALLOCATOR if name in os.environ}
    return found
