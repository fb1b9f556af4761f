"""What each command's report looks like in each format, from reports built by hand.

`make golden` rewrites the files after a change that was meant.
"""

import json
import os
import re
from pathlib import Path

import pytest

from drconv.analysis import (
    ImageStatistics,
    LayerStatistics,
    ProfileReport,
    RegionReport,
    RegionStatistics,
    StopRule,
)
from drconv.analysis.environment_report import EnvironmentReport
from drconv.analysis.flops import (
    CrossCheck,
    FlopReport,
    FlopTree,
    LayerFlops,
    MemoryEstimate,
    StageFlops,
    SweepReport,
)
from drconv.analysis.flops.cross_check import LayerCheck
from drconv.analysis.flops.sweep import SweepPoint
from drconv.analysis.intervals import Ratio
from drconv.analysis.profile import (
    CandidateProfile,
    ExplainedProfile,
    MapStatistics,
    Peaks,
    ProfilePlan,
    ProfilePoint,
    ProfileSweep,
    StagedProfile,
    StageProfile,
    StageSplit,
    TargetProfile,
)
from drconv.analysis.profile.compare import compare_profiles
from drconv.analysis.profile.plan import PlannedCandidate, PlannedTarget
from drconv.analysis.profile.roofline import Traffic, binding, roofline
from drconv.analysis.timing import Timing
from drconv.models.registry import ModelList
from drconv.report import Report
from drconv_cli.output import envelope
from drconv_cli.render import FORMATS

GOLDEN = Path(__file__).parent.parent / "golden"
ENVIRONMENT = {"cpu": "Some CPU", "device": "cpu", "threads": 2, "torch": "2.13.0"}

STAGES = (
    StageFlops("pool", 0, 0, 0, {"pool": 18_816}),
    StageFlops("generator", 38_400, 38_400, 6_208, {"bias": 64}),
    StageFlops("guide", 602_112, 602_112, 200),
    StageFlops("convolution", 1_806_336, 14_450_688, 0),
)
FLOPS = FlopReport(
    (3, 224, 224),
    (
        LayerFlops("stem|odd", "Conv2d", 42, 42, 42, backward=84),
        LayerFlops("a.b", "DRConv2d", 2_446_848, 15_091_200, 6_408, {"pool": 18_816, "bias": 64}, 4_608, 9, STAGES),
    ),
    {"": "Net", "stem|odd": "Conv2d", "a": "Sequential", "a.b": "DRConv2d", "a.c": "ReLU"},
    6_450,
    include=("bias",),
    uncounted={"cumsum": (2, 480)},
    uncalled=("unused",),
    warnings=("making the filters costs more than using them in one layer: a.b (7x7 map, 1.3 x)",),
    memory=MemoryEstimate(32, 25_800, 10**6, 147_456, 2 * 10**6, 3 * 10**6),
)
PEAKS = Peaks(2e11, 3e10, 1.5e11, 2.5e10, 32 << 20)
CONV_TIME = Timing((1e-3, 1.01e-3, 1e-3, 1.02e-3, 1e-3, 1e-3, 1.01e-3), 1, 3e-3, "noise")
EAGER_TIME = Timing((2e-3, 4e-3, 5e-3, 2e-3, 2e-3, 3e-3, 2e-3), 12, 9e-3, "time")
CONV = CandidateProfile(
    "conv2d", timing=CONV_TIME, to_conv2d=Ratio(1.0, (1.0, 1.0)), to_naive=Ratio(0.25, (0.2, 0.3)), peak_memory=24_576,
    roofline=roofline(1e-3, Traffic(10**7, 2 * 10**6), PEAKS, 8e-6),
)  # fmt: skip
LAST = CandidateProfile("conv2d", "channels_last", timing=CONV_TIME, to_conv2d=Ratio(1.01, (0.99, 1.03)))
EAGER_FLOORS = roofline(2e-3, Traffic(2 * 10**7, 4 * 10**6), PEAKS, 3e-4)
EAGER = CandidateProfile(
    "eager", error=1.2345e-7, timing=EAGER_TIME, to_conv2d=Ratio(2.0, (0.9, 5.0)), to_naive=Ratio(0.5, None),
    peak_memory=3 * 10**6, roofline=EAGER_FLOORS,
)  # fmt: skip
WRONG = CandidateProfile("wrong", error=0.01, refusal="differs from the reference by 1.0e-02: not timed")
SPLIT = StageSplit(
    "eager", "NCHW",
    (
        StageProfile("pool", Timing((1e-5,) * 6), 0),
        StageProfile("bucket", Timing((1e-5,) * 6), 0),
        StageProfile("convolution", Timing((3e-5, 5e-5) * 6), 10**6),
    ),
    Timing((5e-5,) * 6),
)  # fmt: skip
PROFILE = ProfileReport(
    (
        TargetProfile(
            "a.b", "24->24 @ 56x56", (CONV, LAST, EAGER, WRONG), ("a.b", "a.c"), MapStatistics(7.5, 40.0, 0.125),
            SPLIT, binding("eager NCHW", 2e-3, EAGER_FLOORS),
            (("conv2d NCHW", "conv2d channels_last"), ("eager NCHW",)),
        ),
        TargetProfile(
            "network", "Net",
            (CONV, CandidateProfile("eager", equal_regions=0.99951, timing=Timing((1.0, 2.0, 4.0)),
                                    to_conv2d=Ratio(1000.0, None))),
        ),
    ),
    (1, 3, 224, 224), "float32", ENVIRONMENT, peaks=PEAKS, notes=("Layers are timed whole.",),
)  # fmt: skip
LATER = ProfileReport(
    (TargetProfile("a.b", "24->24 @ 56x56", (CONV, CandidateProfile("eager", to_conv2d=Ratio(7.0, (6.5, 7.5)),
                                                                    timing=EAGER_TIME))),),
    (1, 3, 224, 224), "float32", ENVIRONMENT | {"threads": 1}, stop=StopRule(rounds=7),
)  # fmt: skip
COMPARISON = compare_profiles(
    {"environment": ENVIRONMENT, "result": PROFILE.to_dict()},
    {"environment": LATER.environment, "result": LATER.to_dict()},
    "old.json",
    0.05,
)
LAYER = LayerStatistics(
    "stage2.0.branch2.0", (2, 4), (3, 5, 0), (0.375, 0.625, 0.0), (1.5, 2.25, None),
    ((1.0, 0.5, None), (0.5, 1.0, None), (None, None, None)),
)  # fmt: skip

REPORTS: dict[str, Report] = {
    "flops": FLOPS,
    "flops-tree": FlopTree(FLOPS),
    "flops-cross-check": CrossCheck(
        (3, 224, 224),
        (
            LayerCheck("stem", "Conv2d", 42, 42, 42),
            LayerCheck("a.b", "DRConv2d", 99, 98, 99),
            LayerCheck("c", "Odd", None, 7, 7),
            LayerCheck("d", "CondConv", 10, 20, 20, registered=True),
        ),
    ),
    "flops-sweep": SweepReport(
        ("num_regions", "size"),
        (SweepPoint((1, 112), 1000, 1000, 0, 50), SweepPoint((8, (112, 224)), 2000, 9000, 4608, 700)),
    ),
    "profile": PROFILE,
    "profile-stages": StagedProfile(PROFILE),
    "profile-explain": ExplainedProfile(PROFILE),
    "profile-compare": COMPARISON,
    "profile-sweep": ProfileSweep(
        "DRConv2d 96->96, batch 32", ("size", "maps"), (ProfilePoint(((7, 14), "salt"), LATER),)
    ),
    "profile-dry-run": ProfilePlan(
        (
            PlannedTarget(
                "a.b",
                "24->24 @ 56x56",
                ("a.b", "a.c"),
                (
                    PlannedCandidate("conv2d", "NCHW"),
                    PlannedCandidate("eager", "NCHW"),
                    PlannedCandidate("native", "NCHW", "it takes float32, not float64"),
                ),
            ),
        ),
        ("reference",),
    ),
    "visualize": RegionReport(
        (ImageStatistics("photo, one.jpg", (64, 128), "out/photo.png", RegionStatistics((LAYER,))),),
        ("random weights",),
    ),
    "models": ModelList((("net_a", "The first."), ("net_b", "The second."))),
    "env": EnvironmentReport(
        ENVIRONMENT,
        {"numpy": "2.4.6", "triton": None},
        ("cpu",),
        {"eager": None, "naive": "it runs on cuda, not on cpu"},
        "eager",
    ),
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("command", REPORTS)
def test_golden(command: str, format: str) -> None:
    report = REPORTS[command]
    data = envelope(command.partition("-")[0], {"model": "net"}, ENVIRONMENT, report, ["a warning"]) | {"version": "0"}
    text = FORMATS[format].render(report.to_table(), data, None)
    path = GOLDEN / f"{command}{FORMATS[format].suffixes[0]}"
    if os.environ.get("DRCONV_REWRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("command", REPORTS)
def test_terminal_output_fits_its_width(command: str) -> None:
    text = FORMATS["table"].render(REPORTS[command].to_table(), {}, 120)
    plain = [_without_colour(line) for line in text.splitlines()]
    assert max(map(len, plain)) <= 120


def _without_colour(line: str) -> str:

    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def test_json_of_numbers_that_are_not_finite_is_null() -> None:
    text = FORMATS["json"].render(REPORTS["models"].to_table(), {"a": [float("nan"), (float("inf"), 1)]}, None)
    assert json.loads(text) == {"a": [None, [None, 1]]}


@pytest.mark.parametrize("command", REPORTS)
def test_envelope_has_the_same_keys_everywhere(command: str) -> None:
    data = envelope(command, {}, ENVIRONMENT, REPORTS[command])
    assert list(data) == ["schema", "command", "version", "environment", "arguments", "result", "warnings"]
    assert data["schema"] == 1
    json.dumps(data)
