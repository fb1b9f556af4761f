"""Lists of positions and tiles, against what PyTorch's stable sort and a plain loop give."""

from functools import cache

import pytest
import torch

from drconv.kernels.triton import regions
from drconv.kernels.triton.regions import most_tiles, sort_positions


@pytest.mark.parametrize("chunk", [16, 1024])
@pytest.mark.parametrize(
    ("sets", "regions_", "size"), [(3, 5, (7, 5)), (1, 1, (1, 1)), (2, 17, (3, 9)), (1, 3, (10, 9))]
)
@pytest.mark.usefixtures("poisoned_empty")
def test_stable_order(
    sets: int, regions_: int, size: tuple[int, int], chunk: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions, "_CHUNK", chunk)
    mask = torch.randint(regions_, (sets * 2, *size))
    mask[mask == 1] = 0  # an empty region
    order, ends = sort_positions(mask.to(device), sets, regions_)
    flat = mask.view(sets, -1)
    assert torch.equal(order.cpu().long(), flat.argsort(dim=1, stable=True))
    counts = torch.nn.functional.one_hot(flat, regions_).sum(1)
    assert torch.equal(ends.cpu().long(), counts.cumsum(1))


@cache
def tiles(positions: int, m: int, block: int) -> int:
    """Return the most tiles that so many positions in m regions can make, by trying all sizes of the last region."""
    if m == 0:
        return 0 if positions == 0 else -1000
    return max(-(-n // block) + tiles(positions - n, m - 1, block) for n in range(positions + 1))


@pytest.mark.parametrize("block", [1, 4, 16])
def test_most_tiles_is_the_most(block: int) -> None:
    for positions in range(1, 30):
        for m in (1, 2, 7):
            assert most_tiles(positions, m, block) == tiles(positions, m, block)
