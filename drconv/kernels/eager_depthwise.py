"""The depthwise case of `eager`: one value per channel and tap, looked up by region; there is nothing to sort for."""

from collections.abc import Iterator

import torch
from torch import Tensor

from drconv.kernels.backend import Gradients, RegionConvProblem
from drconv.kernels.rows import (
    InputRows,
    as_filters,
    as_map,
    as_matrices,
    filter_of_position,
    input_gradient,
    input_rows,
    wide_dtype,
)

__all__ = ["backward", "forward"]


def _values(problem: RegionConvProblem, region_filters: Tensor) -> Tensor:
    """Return the filters as one table of rows per tap, `[K*K, F, C]`."""
    return as_matrices(problem, region_filters).squeeze(3).permute(2, 0, 1).contiguous()


def _taps(source: InputRows, values: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, tap by tap, the input rows that the positions read, and the table of filter values."""
    for tap, value in zip(source.taps, values, strict=True):
        yield source.origin + tap, value


def forward(problem: RegionConvProblem, input: Tensor, region_filters: Tensor, guided_mask: Tensor) -> Tensor:
    """Sum over taps the product of the input with the value of the position's region."""
    p = problem
    source, values = input_rows(p, input), _values(p, region_filters)
    key = filter_of_position(p, guided_mask).flatten()
    output = torch.zeros(len(key), p.out_channels, device=input.device, dtype=wide_dtype(p))
    for reads, value in _taps(source, values):
        output.addcmul_(source.rows.index_select(0, reads), value.index_select(0, key))
    return as_map(p, output)


def backward(
    problem: RegionConvProblem,
    grad_output: Tensor,
    input: Tensor,
    region_filters: Tensor,
    guided_mask: Tensor,
    wanted: tuple[bool, bool, bool],
) -> Gradients:
    """Take each tap once: what it read times the output's gradient gives the filters' gradient and the products."""
    p = problem
    source, values = input_rows(p, input), _values(p, region_filters)
    key = filter_of_position(p, guided_mask)  # [B, P]
    sets = 1 if p.shared_filters else p.batch
    wide = wide_dtype(p)
    grad_rows = grad_output.permute(0, 2, 3, 1).reshape(-1, p.out_channels).to(wide)  # [B*P, C]
    regions = torch.arange(p.num_regions, device=input.device)
    one_hot = (guided_mask.reshape(sets, -1)[:, None] == regions[:, None]).to(wide)  # [S, M, B/S * P]
    grad_source = torch.zeros_like(source.rows, dtype=wide)
    grad_values = torch.empty_like(values, dtype=wide)
    products = grad_rows.new_zeros(sets, p.num_regions, one_hot.shape[2])
    for tap, (reads, value) in enumerate(_taps(source, values)):
        if wanted[0]:
            grad_source.index_add_(0, reads, grad_rows * value.index_select(0, key.flatten()))
        if wanted[1] or wanted[2]:
            seen = (source.rows.index_select(0, reads) * grad_rows).view(sets, -1, p.in_channels)
            grad_values[tap] = torch.bmm(one_hot, seen).flatten(0, 1)
            products.baddbmm_(value.to(wide).view(sets, p.num_regions, -1), seen.mT)
    products = products.view(sets, p.num_regions, -1, p.positions).transpose(1, 2)  # [S, B/S, M, P]
    grad_matrices = grad_values.permute(1, 2, 0)[..., None]  # [F, C, K*K, 1]
    return Gradients(
        input_gradient(p, grad_source) if wanted[0] else None,
        as_filters(p, grad_matrices, region_filters) if wanted[1] else None,
        products.reshape(p.batch, p.num_regions, *p.output_size) if wanted[2] else None,
    )
