"""MobileNetV1: published sizes, and where DRConv stands."""

import pytest

from drconv.analysis import count_flops
from drconv.layers import DRConv2d
from drconv.models import create_model


@pytest.mark.parametrize(
    ("width", "madds", "params", "published"),
    [
        ("x0_25", 41_030_272, 470_072, (41, 0.5)),
        ("x0_5", 149_497_088, 1_331_592, (149, 1.3)),
        ("x0_75", 325_400_448, 2_585_560, (325, 2.6)),
        ("x1_0", 568_740_352, 4_231_976, (569, 4.2)),
    ],
)
def test_counts(width: str, madds: int, params: int, published: tuple[int, float]) -> None:
    report = count_flops(create_model(f"mobilenet_v1_{width}"))
    assert (report.madds, report.params) == (madds, params)
    assert published == (round(madds / 1e6), round(params / 1e6, 1))


def test_drconv_is_every_pointwise_convolution() -> None:
    model = create_model("drconv_mobilenet_v1_x0_25", num_regions=2)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, DRConv2d)}
    assert set(layers) == {f"blocks.{s}.{b}.conv_pw" for s, n in enumerate((1, 2, 2, 6, 2)) for b in range(n)}
    assert all(m.guide is not None and m.guide.kernel_size == m.kernel_size == (1, 1) for m in layers.values())
