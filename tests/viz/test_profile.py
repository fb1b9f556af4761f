"""The figure of a profile: what is drawn where, from reports built by hand."""

from typing import Any

import pytest
from matplotlib.container import BarContainer, ErrorbarContainer

from drconv.analysis.intervals import Ratio
from drconv.analysis.profile import CandidateProfile, ProfilePoint, ProfileReport, ProfileSweep, TargetProfile
from drconv.analysis.timing import Timing
from drconv.errors import ArgumentError
from drconv.viz import profile_figure

WHERE = {"cpu": "Some CPU", "device": "cpu", "threads": 2, "torch": "2.13.0"}
TIMING = Timing((1e-3,) * 6)


def candidate(name: str, ratio: float, layout: str = "NCHW") -> CandidateProfile:
    return CandidateProfile(name, layout, timing=TIMING, to_conv2d=Ratio(ratio, (0.9 * ratio, 1.2 * ratio)))


def report(*candidates: CandidateProfile, name: str = "layer", **other: Any) -> ProfileReport:
    base = CandidateProfile("conv2d", timing=TIMING, to_conv2d=Ratio(1.0, (1.0, 1.0)))
    target = TargetProfile(name, "8->8 @ 4x4", (base, *candidates), **other)
    return ProfileReport((target,), (1, 8, 4, 4), "float32", WHERE)


def sweep(axes: tuple[str, ...], *points: tuple[tuple[Any, ...], ProfileReport]) -> ProfileSweep:
    return ProfileSweep("DRConv2d 8->8, batch 1", axes, tuple(ProfilePoint(*point) for point in points))


def test_a_line_per_candidate_with_intervals_as_error_bars() -> None:
    points = [
        ((size,), report(candidate("native", r), candidate("naive", 20 * r))) for size, r in ((7, 2.0), (28, 1.2))
    ]
    figure = profile_figure(sweep(("size",), *points))
    (axes,) = figure.axes
    lines = {c.get_label(): c for c in axes.containers if isinstance(c, ErrorbarContainer)}
    assert list(lines) == ["native NCHW", "naive NCHW"]
    line, _, (bars,) = lines["native NCHW"].lines
    assert line.get_xdata().tolist() == [7, 28]
    assert line.get_ydata().tolist() == [2.0, 1.2]
    assert [tuple(segment[:, 1]) for segment in bars.get_segments()] == [
        pytest.approx((1.8, 2.4)), pytest.approx((1.08, 1.44)),
    ]  # fmt: skip
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["7", "28"]
    assert 1.0 in [line.get_ydata()[0] for line in axes.lines if line.get_label() == "nn.Conv2d, faster layout"]
    assert "Some CPU, 2 threads" in figure.get_supxlabel()


def test_layouts_share_a_colour_and_differ_in_their_lines() -> None:
    both = report(candidate("native", 1.5), candidate("native", 1.2, "channels_last"), candidate("eager", 2.0))
    figure = profile_figure(sweep(("batch",), ((1,), both), ((2,), both)))
    lines = {c.get_label(): c.lines[0] for c in figure.axes[0].containers}
    nchw, last, eager = (lines[n] for n in ("native NCHW", "native channels_last", "eager NCHW"))
    assert nchw.get_color() == last.get_color() != eager.get_color()
    assert (nchw.get_linestyle(), last.get_linestyle()) == ("-", "--")
    assert figure.axes[0].get_yscale() == "linear"
    assert figure.axes[0].get_xscale() == "linear"


def test_words_and_several_axes() -> None:
    points = [
        ((batch, kind), report(candidate("native", 1 + batch / 10))) for batch in (1, 32) for kind in ("salt", "single")
    ]
    figure = profile_figure(sweep(("batch", "maps"), *points))
    axes = figure.axes[0]
    assert [c.get_label() for c in axes.containers] == ["native NCHW, batch = 1", "native NCHW, batch = 32"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["salt", "single"]
    assert axes.get_xlabel() == "region map"


def test_bars_for_the_targets_of_a_profile() -> None:
    figure = profile_figure(report(candidate("native", 5.0), candidate("eager", 0.5), members=("a", "b")))
    axes = figure.axes[0]
    bars = {c.get_label(): c.patches[0] for c in axes.containers if isinstance(c, BarContainer)}
    assert (bars["native NCHW"].get_y(), bars["native NCHW"].get_height()) == (1, 4)
    assert (bars["eager NCHW"].get_y(), bars["eager NCHW"].get_height()) == (1, -0.5)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["8->8\n4x4\n(x2)"]


def test_title_and_legend_do_not_lie_on_each_other() -> None:
    many = report(*(candidate(f"backend{i}", 1.5 + i) for i in range(7)))
    figure = profile_figure(sweep(("size",), ((7,), many), ((14,), many)))
    figure.draw_without_rendering()
    title, legend = figure._suptitle, figure.axes[0].get_legend()
    assert not title.get_window_extent().overlaps(legend.get_window_extent())
    whole = figure.get_window_extent()
    for part in (title, legend, figure._supxlabel, figure.axes[0]):
        box = part.get_tightbbox() if part is not title else part.get_window_extent()
        assert box.x0 >= whole.x0 - 1
        assert box.y0 >= whole.y0 - 1
        assert box.y1 <= whole.y1 + 1


def test_what_cannot_be_told_apart_or_is_not_there() -> None:
    with pytest.raises(ArgumentError, match="got none"):
        profile_figure(report())
    many = report(*(candidate(f"backend{i}", 1.0) for i in range(9)))
    with pytest.raises(ArgumentError, match="at most 8 lines, got 9"):
        profile_figure(sweep(("size",), ((7,), many)))
    crowd = ProfileReport(tuple(many.targets * 8), (1, 8, 4, 4), "float32", WHERE)
    with pytest.raises(ArgumentError, match="at most 60 bars, got 72"):
        profile_figure(crowd)
