"""Layers: parameters and wiring. What they compute is in `drconv.ops`."""

from drconv.layers.base import DynamicLayer, RegionLayer, set_backend
from drconv.layers.conversion import ConversionReport, ConvertedLayer, LeftLayer
from drconv.layers.convert import SQUEEZE_EXCITES, convert
from drconv.layers.drconv2d import DRConv2d
from drconv.layers.dynamic_conv2d import DynamicConv2d, ExpertAttention, ExpertMixture
from drconv.layers.filter_generator import (
    FILTER_GENERATORS,
    BasisFilterGenerator,
    FilterGenerator,
    FilterSpec,
    LearnedFilters,
    PooledFilterGenerator,
)
from drconv.layers.fold import fold_guide_norm
from drconv.layers.fused import fused_inference
from drconv.layers.guide import GuideConv2d
from drconv.layers.optimize import optimize_for_inference
from drconv.layers.plain_twin import plain_twin
from drconv.layers.region_conv import RegionConv2d
from drconv.layers.registry import LAYERS
from drconv.layers.temperature import TemperatureSchedule, set_temperature

__all__ = [
    "FILTER_GENERATORS",
    "LAYERS",
    "SQUEEZE_EXCITES",
    "BasisFilterGenerator",
    "ConversionReport",
    "ConvertedLayer",
    "DRConv2d",
    "DynamicConv2d",
    "DynamicLayer",
    "ExpertAttention",
    "ExpertMixture",
    "FilterGenerator",
    "FilterSpec",
    "GuideConv2d",
    "LearnedFilters",
    "LeftLayer",
    "PooledFilterGenerator",
    "RegionConv2d",
    "RegionLayer",
    "TemperatureSchedule",
    "convert",
    "fold_guide_norm",
    "fused_inference",
    "optimize_for_inference",
    "plain_twin",
    "set_backend",
    "set_temperature",
]
