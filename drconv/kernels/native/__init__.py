"""The compiled CPU kernels, as the table of backends sees them: whether they can run. Loads nothing at import."""

import torch

from drconv.kernels.backend import RegionConvProblem
from drconv.kernels.layer import LayerProblem
from drconv.kernels.native import library

__all__ = ["why_not", "why_not_infer"]

_INDEX_LIMIT = 2**31
"""Positions and pixels of one sample are numbered in 32 bits; everything else is 64 bits wide."""


def why_not(problem: RegionConvProblem) -> str | None:
    """Return why the compiled kernels cannot run a problem; compiles them if they have never been used."""
    (height, width), (pad_h, pad_w) = problem.input_size, problem.padding
    pixels = max(problem.positions, (height + 2 * pad_h) * (width + 2 * pad_w), problem.num_regions)
    if pixels >= _INDEX_LIMIT:
        return f"one sample may have at most {_INDEX_LIMIT - 1} pixels with padding, got {pixels}"
    return library.why_not()


def why_not_infer(problem: LayerProblem) -> str | None:
    """Return why the compiled kernels cannot run a whole layer that they have no other objection to."""
    if problem.conv.dtype != torch.float32:
        return f"it takes float32, not {problem.conv.dtype}"
    if problem.conv.batch == 0:
        return "there is nothing to run: the batch is empty"
    return None
