"""The compiled CPU kernels, as the table of backends sees them: whether they can run. Loads nothing at import."""

from drconv.kernels.backend import RegionConvProblem
from drconv.kernels.native import library

__all__ = ["why_not"]

_INDEX_LIMIT = 2**31
"""Positions and pixels of one sample are numbered in 32 bits; everything else is 64 bits wide."""


def why_not(problem: RegionConvProblem) -> str | None:
    """Return why the compiled kernels cannot run a problem; compiles them if they have never been used."""
    padded = [n + 2 * pad for n, pad in zip(problem.input_size, problem.padding, strict=True)]
    pixels = max(problem.positions, padded[0] * padded[1], problem.num_regions)
    if pixels >= _INDEX_LIMIT:
        return f"one sample may have at most {_INDEX_LIMIT - 1} pixels with padding, got {pixels}"
    return library.why_not()
