"""Measure any model: every function returns a frozen result of plain numbers."""

from drconv.analysis.comparison import ComparisonReport, LayerComparison
from drconv.analysis.environment import environment, find_device
from drconv.analysis.environment_report import EnvironmentReport, describe_environment
from drconv.analysis.exact_sum import ExactSum
from drconv.analysis.flops import (
    CrossCheck,
    FlopReport,
    FlopTree,
    MemoryEstimate,
    SweepReport,
    count_flops,
    count_released,
    cross_check,
    estimate_memory,
    register_counter,
    sweep_flops,
)
from drconv.analysis.health import RegionCounts, RegionHealth
from drconv.analysis.intervals import wilson_interval
from drconv.analysis.margins import guide_margins
from drconv.analysis.numerics import numerics
from drconv.analysis.profile import (
    LayerSpec,
    ProfileOptions,
    ProfilePlan,
    ProfileReport,
    parse_layer,
    plan_model,
    profile_layer,
    profile_model,
)
from drconv.analysis.read_statistics import statistics_from_dict
from drconv.analysis.record import LayerRegions, RegionRecording, record_regions
from drconv.analysis.region_report import ImageStatistics, RegionReport
from drconv.analysis.running import eval_mode, model_errors
from drconv.analysis.statistics import (
    LayerStatistics,
    RegionStatistics,
    region_statistics,
    with_labels,
)
from drconv.analysis.timing import StopRule
from drconv.analysis.usage import LayerUsage, RegionUsage, UsageReport

__all__ = [
    "ComparisonReport",
    "CrossCheck",
    "EnvironmentReport",
    "ExactSum",
    "FlopReport",
    "FlopTree",
    "ImageStatistics",
    "LayerComparison",
    "LayerRegions",
    "LayerSpec",
    "LayerStatistics",
    "LayerUsage",
    "MemoryEstimate",
    "ProfileOptions",
    "ProfilePlan",
    "ProfileReport",
    "RegionCounts",
    "RegionHealth",
    "RegionRecording",
    "RegionReport",
    "RegionStatistics",
    "RegionUsage",
    "StopRule",
    "SweepReport",
    "UsageReport",
    "count_flops",
    "count_released",
    "cross_check",
    "describe_environment",
    "environment",
    "estimate_memory",
    "eval_mode",
    "find_device",
    "guide_margins",
    "model_errors",
    "numerics",
    "parse_layer",
    "plan_model",
    "profile_layer",
    "profile_model",
    "record_regions",
    "region_statistics",
    "register_counter",
    "statistics_from_dict",
    "sweep_flops",
    "wilson_interval",
    "with_labels",
]
