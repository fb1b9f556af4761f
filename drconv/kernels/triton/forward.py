"""The forward pass: one launch over the tiles of all regions."""

import torch
from torch import Tensor

from drconv.kernels.backend import RegionConvProblem
from drconv.kernels.layer import Geometry
from drconv.kernels.triton.regions import Regions
from drconv.kernels.triton.tile_products import Pass, multiply_tiles
from drconv.kernels.triton.tiles import list_tile
from drconv.kernels.triton.tuning import kind_of, tuned

__all__ = ["forward"]


def forward(
    problem: RegionConvProblem, input: Tensor, region_filters: Tensor, bias: Tensor | None, regions: Regions
) -> Tensor:
    """Return the output `[B, O, U, V]`, any kernel size and groups."""
    p = problem
    shape = (p.batch, p.out_channels, *p.output_size)
    output = torch.empty(shape, dtype=p.dtype, device=input.device, memory_format=p.memory_format)
    outs, ins = p.out_channels // p.groups, p.in_channels // p.groups
    region, out, into, down, across = region_filters.stride()[-5:]
    work = Pass(
        source=input,
        result=output,
        outs=outs,
        ins=ins,
        geometry=Geometry(p.kernel_size, p.stride, p.padding, p.dilation),
        filters=(set_step(p, region_filters), region, outs * out, out, into, down, across),
    )
    tuned(
        ("forward", *kind_of(p)),
        list_tile(p, regions.order.shape[1], outs, ins),
        input.device,
        lambda tile: multiply_tiles(p, work, region_filters, bias, regions, tile),
    )
    return output


def set_step(problem: RegionConvProblem, region_filters: Tensor) -> int:
    """Return the step from the filters of one set to those of the next; a batch that shares them is one set."""
    return 0 if problem.shared_filters else region_filters.stride(0)
