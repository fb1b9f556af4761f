"""MobileNetV3: published sizes, its head, and where DRConv stands."""

import pytest

from drconv.analysis import count_flops
from drconv.layers import DRConv2d
from drconv.models import create_model


@pytest.mark.parametrize(
    ("name", "keywords", "madds", "params"),
    [
        ("small", {}, 56_510_400, 2_542_856),
        ("small", {"head_channels": 1280}, 56_913_856, 2_946_568),
        ("large", {}, 216_589_760, 5_483_032),
    ],
    ids=str,
)
def test_counts(name: str, keywords: dict[str, int], madds: int, params: int) -> None:
    report = count_flops(create_model(f"mobilenet_v3_{name}", **keywords))
    assert (report.madds, report.params) == (madds, params)


# Number of blocks, those with squeeze-excite, and the only one that does not expand.
@pytest.mark.parametrize(
    ("name", "blocks", "squeezing"),
    [("small", 11, {1, *range(4, 12)}), ("large", 15, {4, 5, 6, *range(11, 16)})],
)
def test_drconv_expands_and_projects_in_every_block(name: str, blocks: int, squeezing: set[int]) -> None:
    model = create_model(f"drconv_mobilenet_v3_{name}", num_regions=2)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, DRConv2d)}
    expanding = {f"features.{block}.block.0.0" for block in range(2, blocks + 1)}
    last = {block: (block > 1) + 1 + (block in squeezing) for block in range(1, blocks + 1)}
    assert set(layers) == expanding | {f"features.{block}.block.{index}.0" for block, index in last.items()}
    assert all(m.guide is not None and m.guide.kernel_size == m.kernel_size == (1, 1) for m in layers.values())
