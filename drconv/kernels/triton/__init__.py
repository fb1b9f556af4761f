"""The GPU kernels, as the table of backends sees them: whether they can run. Imports no Triton."""

import os
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import torch

from drconv.kernels.backend import RegionConvProblem
from drconv.kernels.layer import LayerProblem

__all__ = ["is_interpreting", "why_not", "why_not_infer"]

_OLDEST = (3, 2)
"""The first release of Triton that has all that the kernels use."""

_OLDEST_CAPABILITY = (8, 0)
"""What Triton itself asks of an NVIDIA GPU."""

_INDEX_LIMIT = 2**31
"""Positions that share filters are numbered in 32 bits; everything else is 64 bits wide where it has to be."""


_FUSED_POSITIONS = 1024
"""A sample's most positions in one call of a layer: the order of more takes more launches, and filters that many tiles
use are better written once than mixed in each."""


def is_interpreting() -> bool:
    """Return whether the environment asks Triton to run kernels in its interpreter, without a GPU."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")


def why_not(problem: RegionConvProblem) -> str | None:
    """Return why the Triton kernels cannot run a problem."""
    reason = _why_not_installed()
    if reason is not None:
        return reason
    if problem.device_type == "cpu" and not is_interpreting():
        return "it needs a CUDA device; on the CPU it runs only in Triton's interpreter, with TRITON_INTERPRET=1"
    if problem.device_type == "cuda":
        reason = _why_not_device()
        if reason is not None:
            return reason
    positions = problem.positions * (problem.batch if problem.shared_filters else 1)
    pixels = max(positions, problem.input_size[0] * problem.input_size[1])
    if pixels >= _INDEX_LIMIT:
        return f"at most {_INDEX_LIMIT - 1} pixels may share their filters, got {pixels}"
    return None


def why_not_infer(problem: LayerProblem) -> str | None:
    """Return why the Triton kernels cannot run a whole layer that they have no other objection to."""
    conv = problem.conv
    if problem.generator == "learned":
        return "learned filters are not mixed of anything, so that stages do the same"
    if conv.in_channels == conv.out_channels == conv.groups > 1:
        return "filters of depthwise convolutions are too small to gain from being mixed in place"
    if conv.positions > _FUSED_POSITIONS:
        return f"filters are mixed in place for at most {_FUSED_POSITIONS} positions, got {conv.positions}"
    if conv.batch == 0:
        return "there is nothing to run: the batch is empty"
    return None


@lru_cache(maxsize=1)
def _why_not_installed() -> str | None:
    if find_spec("triton") is None:
        return "Triton is not installed; PyTorch for CUDA on Linux brings it, or: pip install triton"
    try:
        found = version("triton")
    except PackageNotFoundError:
        return None  # a build of its own under another name, such as that for ROCm; whether it will do is unknown
    numbers = tuple(int(part) for part in found.split("+")[0].split(".")[:2] if part.isdigit())
    if numbers < _OLDEST:
        return f"it needs Triton {'.'.join(map(str, _OLDEST))} or newer, got {found}"
    return None


def _why_not_device() -> str | None:
    if not torch.cuda.is_available():
        return "PyTorch sees no CUDA device"
    if torch.version.hip is not None:
        return None
    capability = torch.cuda.get_device_capability()
    if capability < _OLDEST_CAPABILITY:
        return f"Triton needs compute capability 8.0 or newer, got {capability[0]}.{capability[1]}"
    return None
