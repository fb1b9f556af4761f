"""From scores to regions, and the softmax that stands in for the gradient."""

import pytest
import torch

from drconv.ops import guided_mask, softmax_gradient


def test_ties_go_to_the_lowest_region() -> None:
    scores = torch.tensor([1.0, 3.0, 3.0, 3.0]).view(1, 4, 1, 1)
    assert guided_mask(scores).item() == 1
    assert (guided_mask(torch.zeros(2, 8, 5, 3)) == 0).all()


def test_nan_counts_as_largest_and_the_first_wins() -> None:
    scores = torch.tensor([torch.inf, torch.nan, 9.0, torch.nan]).view(1, 4, 1, 1)
    assert guided_mask(scores).item() == 1
    # Wide enough that a vectorised argmax would be used, in every layout.
    wide = torch.randn(2, 16, 33, 17)
    wide[:, 5], wide[:, 11] = torch.nan, torch.nan
    assert (guided_mask(wide) == 5).all()
    assert (guided_mask(wide.contiguous(memory_format=torch.channels_last)) == 5).all()


def test_mask_is_integer_at_every_position() -> None:
    mask = guided_mask(torch.randn(2, 3, 4, 5))
    assert mask.shape == (2, 4, 5)
    assert mask.dtype == torch.int64


def test_softmax_gradient_is_the_softmax_jacobian() -> None:
    scores = torch.randn(2, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    products = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    (expected,) = torch.autograd.grad((scores.softmax(1) * products).sum(), scores)
    torch.testing.assert_close(softmax_gradient(scores.detach(), products), expected)


def test_softmax_is_taken_in_float32_for_half_precision() -> None:
    scores = (torch.randn(1, 4, 6, 6) * 3).bfloat16()
    products = torch.randn(1, 4, 6, 6)
    expected = softmax_gradient(scores.float(), products).bfloat16()
    actual = softmax_gradient(scores, products)
    assert actual.dtype == torch.bfloat16
    assert torch.equal(actual, expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_equal_to_argmax_with_ties_and_nan(dtype: torch.dtype, layout: torch.memory_format) -> None:
    made = torch.Generator().manual_seed(0)
    # Few values, so that most positions have ties, and many non-finite ones; sizes beyond one vector.
    values = torch.tensor([-torch.inf, -1, 0, 1, torch.inf, torch.nan], dtype=dtype)
    for regions in (1, 2, 8, 19):
        scores = values[torch.randint(0, 6, (2, regions, 23, 17), generator=made)].contiguous(memory_format=layout)
        assert torch.equal(guided_mask(scores), scores.argmax(1))
