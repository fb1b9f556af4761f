"""What each command's report looks like in each format, from reports built by hand.

`make golden` rewrites the files after a change that was meant.
"""

import json
import os
import re
from pathlib import Path

import pytest

from drconv.analysis import ImageStatistics, LayerStatistics, ProfileReport, RegionReport, RegionStatistics
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
from drconv.analysis.profile_report import CandidateProfile, TargetProfile
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
CONV = CandidateProfile("conv2d", None, None, Timing((1e-3, 2e-3, 3e-3)), 1.0, 0.25)
EAGER = CandidateProfile("eager", 1.2345e-7, None, Timing((2e-3, 4e-3, 5e-3)), 2.0, 0.5)
WRONG = CandidateProfile("wrong", 0.01, None, None, None, None, "differs from the reference by 1.0e-02: not timed")
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
    "profile": ProfileReport(
        (
            TargetProfile("a.b", "24->24 @ 56x56", (CONV, EAGER, WRONG)),
            TargetProfile(
                "network",
                "Net",
                (CONV, CandidateProfile("eager", None, 0.99951, Timing((1.0, 2.0, 4.0)), 1000.0, None)),
            ),
        ),
        (1, 3, 224, 224),
        "float32",
        3,
        1,
        ENVIRONMENT,
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
