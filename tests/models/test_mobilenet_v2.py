"""MobileNetV2: published sizes, and where DRConv stands."""

import pytest

from drconv.analysis import count_flops
from drconv.layers import DRConv2d
from drconv.models import create_model


@pytest.mark.parametrize(
    ("width", "madds", "params", "published"),
    [
        ("x0_35", 59_285_808, 1_677_128, (59, 1.7)),
        ("x0_5", 97_131_840, 1_968_680, (97, 2.0)),
        ("x0_75", 209_069_792, 2_636_424, (209, 2.6)),
        ("x1_0", 300_774_272, 3_504_872, (301, 3.5)),  # published as 300M
        ("x1_4", 582_195_824, 6_108_776, (582, 6.1)),
    ],
)
def test_counts(width: str, madds: int, params: int, published: tuple[int, float]) -> None:
    report = count_flops(create_model(f"mobilenet_v2_{width}"))
    assert (report.madds, report.params) == (madds, params)
    assert published == (round(madds / 1e6), round(params / 1e6, 1))


def test_drconv_expands_and_projects_in_every_block() -> None:
    model = create_model("drconv_mobilenet_v2_x0_35", num_regions=2)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, DRConv2d)}
    expanding = {f"features.{block}.conv.0.0" for block in range(2, 18)}
    projecting = {"features.1.conv.1", *(f"features.{block}.conv.2" for block in range(2, 18))}
    assert set(layers) == expanding | projecting
    assert all(m.guide is not None and m.guide.kernel_size == m.kernel_size == (1, 1) for m in layers.values())
