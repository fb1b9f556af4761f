"""Measure any model: every function returns a frozen result of plain numbers.

Names are loaded on first use: who draws regions need not wait for what counts FLOPs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

# Now, because a module of a function's name would take its place when somebody imports it later.
from drconv.analysis.environment import environment, find_device
from drconv.analysis.numerics import numerics

if TYPE_CHECKING:
    from drconv.analysis.comparison import ComparisonReport, LayerComparison
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

_HOMES = {
    "ComparisonReport": "drconv.analysis.comparison",
    "CrossCheck": "drconv.analysis.flops",
    "EnvironmentReport": "drconv.analysis.environment_report",
    "ExactSum": "drconv.analysis.exact_sum",
    "FlopReport": "drconv.analysis.flops",
    "FlopTree": "drconv.analysis.flops",
    "ImageStatistics": "drconv.analysis.region_report",
    "LayerComparison": "drconv.analysis.comparison",
    "LayerRegions": "drconv.analysis.record",
    "LayerSpec": "drconv.analysis.profile",
    "LayerStatistics": "drconv.analysis.statistics",
    "LayerUsage": "drconv.analysis.usage",
    "MemoryEstimate": "drconv.analysis.flops",
    "ProfileOptions": "drconv.analysis.profile",
    "ProfilePlan": "drconv.analysis.profile",
    "ProfileReport": "drconv.analysis.profile",
    "RegionCounts": "drconv.analysis.health",
    "RegionHealth": "drconv.analysis.health",
    "RegionRecording": "drconv.analysis.record",
    "RegionReport": "drconv.analysis.region_report",
    "RegionStatistics": "drconv.analysis.statistics",
    "RegionUsage": "drconv.analysis.usage",
    "StopRule": "drconv.analysis.timing",
    "SweepReport": "drconv.analysis.flops",
    "UsageReport": "drconv.analysis.usage",
    "count_flops": "drconv.analysis.flops",
    "count_released": "drconv.analysis.flops",
    "cross_check": "drconv.analysis.flops",
    "describe_environment": "drconv.analysis.environment_report",
    "estimate_memory": "drconv.analysis.flops",
    "eval_mode": "drconv.analysis.running",
    "guide_margins": "drconv.analysis.margins",
    "model_errors": "drconv.analysis.running",
    "parse_layer": "drconv.analysis.profile",
    "plan_model": "drconv.analysis.profile",
    "profile_layer": "drconv.analysis.profile",
    "profile_model": "drconv.analysis.profile",
    "record_regions": "drconv.analysis.record",
    "region_statistics": "drconv.analysis.statistics",
    "register_counter": "drconv.analysis.flops",
    "statistics_from_dict": "drconv.analysis.read_statistics",
    "sweep_flops": "drconv.analysis.flops",
    "wilson_interval": "drconv.analysis.intervals",
    "with_labels": "drconv.analysis.statistics",
}

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


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'drconv.analysis' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
