"""How large the blocks of a kernel are: a fixed, safe choice by the sizes of the call."""

from dataclasses import dataclass

import torch

from drconv.kernels.backend import RegionConvProblem
from drconv.kernels.triton.launch import power

__all__ = ["Tile", "dense_tile", "list_tile", "pixel_tile"]


@dataclass(frozen=True)
class Tile:
    """The blocks of one program.

    Attributes:
        rows: positions.
        outs, ins: channels of the result, and those that are summed over.
        warps, stages: as Triton has them.
    """

    rows: int
    outs: int
    ins: int
    warps: int = 4
    stages: int = 3

    @property
    def meta(self) -> dict[str, int]:
        """What every launch hands to Triton."""
        return {"num_warps": self.warps, "num_stages": self.stages}


def _ins(dtype: torch.dtype, channels: int) -> int:
    # 64 bytes of a row in float32 as in half precision; a product needs 16 to sum over.
    return power(channels, 16, 16 if dtype == torch.float32 else 32)


def list_tile(problem: RegionConvProblem, positions: int, outs: int, ins: int) -> Tile:
    """Return the blocks for positions in the order of their regions, by how many a region has on average."""
    rows = power(positions // problem.num_regions, 16, 64)
    block = power(outs, 16, 64)
    return Tile(rows, block, _ins(problem.dtype, ins), warps=4 if rows * block > 1024 else 2)


def dense_tile(problem: RegionConvProblem, outs: int, ins: int) -> Tile:
    """Return the blocks for positions in their natural order."""
    rows, block = power(problem.positions, 16, 64), power(outs, 16, 64)
    return Tile(rows, block, _ins(problem.dtype, ins), warps=4 if rows * block > 1024 else 2)


def pixel_tile(pixels: int, channels: int) -> Tile:
    """Return the blocks for kernels that take every channel by itself."""
    block = power(channels, 16, 64)
    return Tile(power(pixels, 16, 2048 // block), block, 1)
