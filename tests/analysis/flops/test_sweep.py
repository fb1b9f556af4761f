import pytest
from torch import nn

from drconv.analysis.flops import count_flops, sweep_flops
from drconv.errors import ArgumentError
from drconv.layers import DRConv2d


def build(num_regions: int = 8, filter_generator: str = "pooled") -> nn.Module:
    return DRConv2d(3, 4, 1, num_regions=num_regions, filter_generator=filter_generator)


def test_every_point_is_a_count() -> None:
    seen = []
    axes = {"num_regions": (1, 3), "size": (6, (5, 7))}
    report = sweep_flops(build, axes, progress=lambda *step: seen.append(step))
    assert [x.settings for x in report.points] == [(1, 6), (1, (5, 7)), (3, 6), (3, (5, 7))]
    for point, (regions, size) in zip(report.points, [(1, (6, 6)), (1, (5, 7)), (3, (6, 6)), (3, (5, 7))], strict=True):
        alone = count_flops(build(regions), (3, *size))
        assert (point.madds, point.executed, point.generated, point.params) == (
            alone.madds,
            alone.executed,
            alone.generated,
            alone.params,
        )
    assert seen[1] == ("num_regions=1, size=(5, 7)", 1, 4)
    assert report.to_dict()["points"][3]["settings"] == {"num_regions": 3, "size": (5, 7)}
    assert [row[:2] for row in report.to_table().rows] == [("1", "6"), ("1", "5x7"), ("3", "6"), ("3", "5x7")]


def test_without_size_the_given_one_is_used() -> None:
    report = sweep_flops(build, {"filter_generator": ["learned"]}, (3, 4, 5))
    assert report.points[0].madds == 20 * 3 * (8 + 4)


@pytest.mark.parametrize("axes", [{}, {"num_regions": []}])
def test_nothing_to_sweep(axes: dict[str, list[int]]) -> None:
    with pytest.raises(ArgumentError, match="a sweep needs at least one axis"):
        sweep_flops(build, axes)
