"""Einstein sums against what PyTorch runs, and by hand."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from drconv.analysis.flops.einsum import einsum_madds


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("bchw,bdhw->bcd", [(2, 67, 13, 13), (2, 5, 13, 13)]),
        ("ij,jk->ik", [(3, 4), (4, 5)]),
        ("bij,bjk", [(2, 3, 4), (2, 4, 5)]),
        ("...hw,wk->...hk", [(2, 3, 4, 5), (5, 7)]),
        ("...ij,...jk->...ik", [(6, 3, 4), (2, 6, 4, 5)]),
        ("bchw,cd->bd", [(2, 3, 4, 5), (3, 7)]),
        ("bchw,cd,de->behw", [(2, 67, 3, 3), (67, 31), (31, 29)]),
        ("i,i->", [(9,), (9,)]),
        ("bij,bkj->bik", [(2, 3, 4), (1, 5, 4)]),
    ],
)
def test_as_pytorch_runs_it(equation: str, shapes: list[tuple[int, ...]]) -> None:
    operands = [torch.randn(shape) for shape in shapes]
    with FlopCounterMode(display=False) as counter:
        torch.einsum(equation, *operands)
    assert einsum_madds(equation, shapes) == (counter.get_total_flops() // 2, 0)


def test_a_product_that_sums_nothing_is_element_wise() -> None:
    assert einsum_madds("bchw,c->bchw", [(2, 3, 4, 5), (3,)]) == (0, 120)
    assert einsum_madds("i,j->ij", [(3,), (4,)]) == (0, 12)
    assert einsum_madds("ij->ji", [(3, 4)]) == (0, 0)


def test_a_path_changes_the_order() -> None:
    shapes = [(2, 3), (3, 50), (50, 4)]
    left = 2 * 3 * 50 + 2 * 50 * 4
    right = 3 * 50 * 4 + 2 * 3 * 4
    assert einsum_madds("ab,bc,cd->ad", shapes) == (left, 0)
    assert einsum_madds("ab,bc,cd->ad", shapes, [1, 2, 0, 1]) == (right, 0)
