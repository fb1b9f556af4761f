"""The one table of tolerances: dtype -> largest error, as a fraction of the largest value compared with."""

import torch
from torch import Tensor

TOLERANCES = {
    torch.float64: 1e-10,
    torch.float32: 2e-5,
    # One rounding of a result of the size of the largest is 2^-11 or 2^-8; sums over taps and channels add a few.
    torch.float16: 3e-3,
    torch.bfloat16: 2e-2,
}


# What one rounding per multiply-add leaves: for kernels of our own, which gather no errors of others.
TIGHT = 2e-6


def assert_near(
    actual: Tensor,
    expected: Tensor,
    what: str,
    dtype: torch.dtype | None = None,
    tolerance: float | None = None,
) -> None:
    """Compare with the tolerance of a dtype, by default that of `actual`; NaN equals NaN."""
    tolerance = TOLERANCES[dtype or actual.dtype] if tolerance is None else tolerance
    assert actual.shape == expected.shape, f"{what}: {tuple(actual.shape)} for {tuple(expected.shape)}"
    a, e = actual.detach().double(), expected.detach().double()
    assert torch.equal(a.isnan(), e.isnan()), f"{what}: NaN in other places"
    a, e = a.nan_to_num(), e.nan_to_num()
    if e.numel() == 0:
        return
    error = float((a - e).abs().max()) / max(float(e.abs().max()), 1e-6)
    assert error <= tolerance, f"{what}: error {error:.2e} of the largest value, allowed {tolerance:.0e}"
