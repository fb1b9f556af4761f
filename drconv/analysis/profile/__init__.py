"""Time dynamic layers and networks against `nn.Conv2d`: interleaved, checked against the reference, explained."""

from drconv.analysis.profile.agreement import AGREEMENT
from drconv.analysis.profile.compare import Comparison, check_profile, compare_profiles
from drconv.analysis.profile.layer import FILTER_ORDERS, SCOPES, layer_problem, profile_layer
from drconv.analysis.profile.layer_spec import LAYER_KEYS, LayerSpec, parse_layer
from drconv.analysis.profile.maps import MAPS, MapStatistics, draw_map, force_map, map_statistics
from drconv.analysis.profile.model import NETWORK, profile_model
from drconv.analysis.profile.options import LAYOUTS, PASSES, ProfileOptions
from drconv.analysis.profile.peaks import Peaks, measure_peaks
from drconv.analysis.profile.plan import ProfilePlan, plan_calls, plan_model
from drconv.analysis.profile.report import (
    CandidateProfile,
    ProfileReport,
    StageProfile,
    StageSplit,
    TargetProfile,
)
from drconv.analysis.profile.stamp import stamp
from drconv.analysis.profile.sweep import ProfilePoint, ProfileSweep, sweep_profiles
from drconv.analysis.profile.views import ExplainedProfile, StagedProfile

__all__ = [
    "AGREEMENT",
    "FILTER_ORDERS",
    "LAYER_KEYS",
    "LAYOUTS",
    "MAPS",
    "NETWORK",
    "PASSES",
    "SCOPES",
    "CandidateProfile",
    "Comparison",
    "ExplainedProfile",
    "LayerSpec",
    "MapStatistics",
    "Peaks",
    "ProfileOptions",
    "ProfilePlan",
    "ProfilePoint",
    "ProfileReport",
    "ProfileSweep",
    "StageProfile",
    "StageSplit",
    "StagedProfile",
    "TargetProfile",
    "check_profile",
    "compare_profiles",
    "draw_map",
    "force_map",
    "layer_problem",
    "map_statistics",
    "measure_peaks",
    "parse_layer",
    "plan_calls",
    "plan_model",
    "profile_layer",
    "profile_model",
    "stamp",
    "sweep_profiles",
]
