"""ResNet: published sizes, and where DRConv stands."""

import pytest

from drconv.analysis import count_flops
from drconv.layers import DRConv2d
from drconv.models import create_model


@pytest.mark.parametrize(
    ("depth", "madds", "params"),
    [
        (10, 889_229_312, 5_418_792),  # DyConv paper: 0.89G
        (18, 1_814_073_344, 11_689_512),
        (34, 3_663_761_408, 21_797_672),
        (50, 4_089_184_256, 25_557_032),
    ],
)
def test_counts(depth: int, madds: int, params: int) -> None:
    report = count_flops(create_model(f"resnet{depth}"))
    assert (report.madds, report.params) == (madds, params)


@pytest.mark.parametrize(
    ("depth", "repeats", "convs"),
    [
        (10, (1, 1, 1, 1), ("conv1", "conv2")),
        (18, (2, 2, 2, 2), ("conv1", "conv2")),
        (34, (3, 4, 6, 3), ("conv1", "conv2")),
        (50, (3, 4, 6, 3), ("conv2",)),
    ],
)
def test_drconv_is_every_3x3_convolution(depth: int, repeats: tuple[int, ...], convs: tuple[str, ...]) -> None:
    model = create_model(f"drconv_resnet{depth}", num_regions=1)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, DRConv2d)}
    blocks = [f"layer{stage}.{block}" for stage, count in enumerate(repeats, 1) for block in range(count)]
    assert set(layers) == {f"{block}.{conv}" for block in blocks for conv in convs}
    for layer in layers.values():
        assert layer.guide is not None
        assert layer.guide.kernel_size == layer.kernel_size == (3, 3)
        assert layer.guide.stride == layer.stride
    # The stride is the block's first 3x3 convolution's.
    assert layers[f"layer2.0.{convs[0]}"].stride == (2, 2)
