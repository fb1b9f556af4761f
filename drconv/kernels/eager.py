"""One filter per position with PyTorch operations, on any device.

Positions are sorted by the filter they use, so that each filter is one matrix product over its own rows. Rows are
gathered from the padded input in blocks of bounded size, and no buffer grows with M. Small calls skip the sorting.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from drconv.kernels import eager_depthwise, naive
from drconv.kernels.backend import Gradients, RegionConvProblem
from drconv.kernels.rows import (
    InputRows,
    as_filters,
    as_map,
    as_matrices,
    filter_of_position,
    input_gradient,
    input_rows,
    spread,
    wide_dtype,
)

__all__ = ["backward", "forward", "madds"]

_ALL_FILTERS_SIZE = 3 << 20
"""Elements that the outputs of all filters may take where every filter is applied (12 MB in float32)."""

# Sorting costs about the same for every filter of every sample, so it does not pay where each has little to do, or
# where there are few outputs in all. Limits as measured on a CPU; studies/eager_against_naive.py shows the result.
_LITTLE_WORK = 1 << 19
"""Multiply-adds of one 1x1 filter over one sample."""

_LITTLE_WORK_KXK = {"forward": 3 << 19, "backward": 1 << 23}
"""The same for larger filters, whose rows are gathered, and in backward scattered, once per tap."""

_FEW_OUTPUTS = 1 << 18
"""Outputs of all filters, if one filter does no more than `_MUCH_WORK`."""

_MUCH_WORK = 1 << 23

_ROWS_LIMIT = 1 << 23
"""Elements of gathered input rows held at once (32 MB in float32)."""


class _Block(NamedTuple):
    """Positions in the order of their filters, and the runs that share one: (filter, start, stop) within the block."""

    positions: Tensor
    runs: list[tuple[int, int, int]]


def _gather(problem: RegionConvProblem, source: InputRows, positions: Tensor) -> Tensor:
    """Return what each position reads as one matrix per channel group, `[G, n, K*K*C/G]`."""
    index = source.origin[positions][:, None] + source.taps
    rows = source.rows.index_select(0, index.flatten())
    rows = rows.view(len(positions), len(source.taps), problem.groups, -1)  # [n, K*K, G, C/G]
    return rows.permute(2, 0, 1, 3).flatten(2)


def _blocks(problem: RegionConvProblem, guided_mask: Tensor) -> Iterator[_Block]:
    """Sort the positions of the batch by the filter they use, and cut them into blocks of bounded size."""
    key = filter_of_position(problem, guided_mask).flatten()
    order = key.argsort(stable=True)
    ends = key.bincount().cumsum(0).tolist()
    length = _block_length(problem)
    index = 0
    for first in range(0, len(order), length):
        last = min(first + length, len(order))
        runs, start = [], first
        while start < last:
            while ends[index] <= start:
                index += 1
            stop = min(ends[index], last)
            runs.append((index, start - first, stop - first))
            start = stop
        yield _Block(order[first:last], runs)


def _block_length(problem: RegionConvProblem) -> int:
    row_size = problem.in_channels * problem.kernel_size[0] * problem.kernel_size[1]
    return max(1, _ROWS_LIMIT // row_size)


def _multiply(a: Tensor, b: Tensor, out: Tensor) -> None:
    """Write the products of two stacks of matrices; a batched call is slow for a stack of one."""
    if a.shape[0] == 1:
        torch.mm(a[0], b[0], out=out[0])
    else:
        out.copy_(torch.bmm(a, b))


def _is_depthwise(problem: RegionConvProblem) -> bool:
    return problem.in_channels == problem.out_channels == problem.groups > 1


def _is_small(problem: RegionConvProblem, direction: Literal["forward", "backward"]) -> bool:
    p = problem
    if p.num_regions == 1:
        return True
    # With few positions most filters go unused, and shared ones make only M products to sort for.
    if p.positions <= p.num_regions or (p.shared_filters and p.batch > 1):
        return False
    work = p.positions * p.out_channels * p.in_channels // p.groups * p.kernel_size[0] * p.kernel_size[1]
    size = p.batch * p.num_regions * p.out_channels * p.positions
    if size > _ALL_FILTERS_SIZE:
        return False
    little = _LITTLE_WORK if p.kernel_size == (1, 1) else _LITTLE_WORK_KXK[direction]
    return work <= little or (size <= _FEW_OUTPUTS and work <= _MUCH_WORK) or _is_depthwise(p)


def _is_pointwise(problem: RegionConvProblem) -> bool:
    p = problem
    return p.kernel_size == p.stride == (1, 1) and p.padding == (0, 0) and p.groups == 1 and not p.shared_filters


def madds(problem: RegionConvProblem) -> int:
    """Return what `forward` executes: one filter per position, or all of them where sorting would not pay."""
    return problem.num_regions * problem.madds if _is_small(problem, "forward") else problem.madds


def _forward_pointwise(
    problem: RegionConvProblem, input: Tensor, region_filters: Tensor, guided_mask: Tensor
) -> Tensor:
    """Apply every 1x1 filter everywhere in one batched product, then pick one result per position."""
    p = problem
    filters = region_filters.reshape(p.batch, -1, p.in_channels)
    outputs = torch.bmm(filters, input.flatten(2)).view(p.batch, p.num_regions, p.out_channels, p.positions)
    if p.num_regions == 1:
        output = outputs[:, 0]
    else:
        index = guided_mask.view(p.batch, 1, 1, p.positions).expand(-1, -1, p.out_channels, -1)
        output = outputs.gather(1, index)
    output = output.view(p.batch, p.out_channels, *p.output_size)
    return output.contiguous(memory_format=p.memory_format)


def forward(problem: RegionConvProblem, input: Tensor, region_filters: Tensor, guided_mask: Tensor) -> Tensor:
    """Multiply each run of rows by its filter and put the results back where they belong."""
    p = problem
    if _is_small(p, "forward"):
        small = _forward_pointwise if _is_pointwise(p) else naive.forward
        return small(p, input, region_filters, guided_mask)
    if _is_depthwise(p):
        return eager_depthwise.forward(p, input, region_filters, guided_mask)
    source, matrices = input_rows(p, input), as_matrices(p, region_filters)
    output = input.new_empty(p.batch * p.positions, p.out_channels)
    for block in _blocks(p, guided_mask):
        rows = _gather(p, source, block.positions)
        results = rows.new_empty(p.groups, len(block.positions), p.out_channels // p.groups)
        for index, start, stop in block.runs:
            _multiply(rows[:, start:stop], matrices[index], results[:, start:stop])
        output.index_copy_(0, block.positions, results.transpose(0, 1).flatten(1))
    return as_map(p, output)


def backward(
    problem: RegionConvProblem,
    grad_output: Tensor,
    input: Tensor,
    region_filters: Tensor,
    guided_mask: Tensor,
    wanted: tuple[bool, bool, bool],
) -> Gradients:
    """Run the same blocks against the output's gradient; the products take one pass per region in natural order."""
    p = problem
    if _is_small(p, "backward"):
        return naive.backward(p, grad_output, input, region_filters, guided_mask, wanted)
    if _is_depthwise(p):
        return eager_depthwise.backward(p, grad_output, input, region_filters, guided_mask, wanted)
    source, matrices = input_rows(p, input), as_matrices(p, region_filters)
    grad_rows = grad_output.permute(0, 2, 3, 1).reshape(-1, p.out_channels)  # [B*P, O]
    wide = wide_dtype(p)
    grad_source = torch.zeros_like(source.rows, dtype=wide) if wanted[0] else None
    grad_matrices = torch.zeros_like(matrices, dtype=wide) if wanted[1] else None
    for block in _blocks(p, guided_mask) if wanted[0] or wanted[1] else ():
        g = grad_rows.index_select(0, block.positions).view(len(block.positions), p.groups, -1).transpose(0, 1)
        if grad_source is not None:
            grads = g.new_empty(p.groups, len(block.positions), matrices.shape[2])  # [G, n, K*K*C/G]
            for index, start, stop in block.runs:
                _multiply(g[:, start:stop], matrices[index].mT, grads[:, start:stop])
            grads = grads.unflatten(2, (len(source.taps), -1)).permute(2, 1, 0, 3).flatten(2).to(wide)  # [K*K, n, C]
            for tap, grad in zip(source.taps, grads, strict=True):
                # No position occurs twice in a block, so that no two rows meet and the sum is deterministic.
                grad_source.index_add_(0, source.origin[block.positions] + tap, grad)
        if grad_matrices is not None:
            rows = _gather(p, source, block.positions)
            for index, start, stop in block.runs:
                grad_matrices[index] += rows[:, start:stop].mT @ g[:, start:stop]
    return Gradients(
        None if grad_source is None else input_gradient(p, grad_source),
        None if grad_matrices is None else as_filters(p, grad_matrices, region_filters),
        _products(p, grad_rows, source, as_matrices(p, spread(p, region_filters))) if wanted[2] else None,
    )


def _products(problem: RegionConvProblem, grad_rows: Tensor, source: InputRows, matrices: Tensor) -> Tensor:
    """Return <grad_output, filter j applied here> for all regions, `[B, M, U, V]`, one region at a time."""
    p = problem
    sets = 1 if p.shared_filters else p.batch
    filters = matrices.unflatten(0, (sets, p.num_regions))  # [S, M, G, K*K*C/G, O/G]
    wide = wide_dtype(p)
    products = grad_rows.new_empty(p.num_regions, p.batch, p.positions, dtype=wide)
    positions = torch.arange(p.batch * p.positions, device=grad_rows.device).view(p.batch, p.positions)
    step = max(1, _block_length(p) // p.batch)
    for first in range(0, p.positions, step):
        here = positions[:, first : first + step]  # [B, n]
        rows = _gather(p, source, here.flatten()).unflatten(1, (sets, -1)).transpose(0, 1)  # [S, G, B/S * n, K*K*C/G]
        g = grad_rows.index_select(0, here.flatten()).view(sets, -1, p.groups, p.out_channels // p.groups)
        g = g.transpose(1, 2).flatten(0, 1).to(wide)  # [S*G, B/S * n, O/G]
        for j in range(p.num_regions):
            outputs = torch.bmm(rows.flatten(0, 1), filters[:, j].flatten(0, 1))
            per_group = (outputs * g).sum(-1).view(sets, p.groups, -1)
            products[j, :, first : first + step] = per_group.sum(1).view(here.shape)
    return products.transpose(0, 1).reshape(p.batch, p.num_regions, *p.output_size)
