"""Dynamic region-aware convolution for PyTorch.

Public names are loaded on first use, so that `import drconv` is light.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from drconv.version import __version__

if TYPE_CHECKING:
    from drconv.analysis import (
        count_flops,
        profile_layer,
        profile_model,
        record_regions,
        region_statistics,
        register_counter,
    )
    from drconv.errors import ArgumentError, BackendError, DrconvError, UnknownNameError
    from drconv.layers import (
        DRConv2d,
        DynamicConv2d,
        GuideConv2d,
        TemperatureSchedule,
        convert,
        fold_guide_norm,
        fused_inference,
        optimize_for_inference,
        set_backend,
        set_temperature,
    )
    from drconv.models import create_model, list_models, load_demo_model, register_model
    from drconv.ops import guided_mask, region_conv2d
    from drconv.regions import visualize

_HOMES = {
    "ArgumentError": "drconv.errors",
    "BackendError": "drconv.errors",
    "DRConv2d": "drconv.layers",
    "DrconvError": "drconv.errors",
    "DynamicConv2d": "drconv.layers",
    "GuideConv2d": "drconv.layers",
    "TemperatureSchedule": "drconv.layers",
    "UnknownNameError": "drconv.errors",
    "convert": "drconv.layers",
    "count_flops": "drconv.analysis",
    "create_model": "drconv.models",
    "fold_guide_norm": "drconv.layers",
    "fused_inference": "drconv.layers",
    "guided_mask": "drconv.ops",
    "list_models": "drconv.models",
    "load_demo_model": "drconv.models",
    "optimize_for_inference": "drconv.layers",
    "profile_layer": "drconv.analysis",
    "profile_model": "drconv.analysis",
    "record_regions": "drconv.analysis",
    "region_conv2d": "drconv.ops",
    "region_statistics": "drconv.analysis",
    "register_counter": "drconv.analysis",
    "register_model": "drconv.models",
    "set_backend": "drconv.layers",
    "set_temperature": "drconv.layers",
    "visualize": "drconv.regions",
}

__all__ = [
    "ArgumentError",
    "BackendError",
    "DRConv2d",
    "DrconvError",
    "DynamicConv2d",
    "GuideConv2d",
    "TemperatureSchedule",
    "UnknownNameError",
    "__version__",
    "convert",
    "count_flops",
    "create_model",
    "fold_guide_norm",
    "fused_inference",
    "guided_mask",
    "list_models",
    "load_demo_model",
    "optimize_for_inference",
    "profile_layer",
    "profile_model",
    "record_regions",
    "region_conv2d",
    "region_statistics",
    "register_counter",
    "register_model",
    "set_backend",
    "set_temperature",
    "visualize",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'drconv' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
