"""The activations that a layer may apply itself, by name."""

from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ACTIVATIONS", "ACTIVATION_NAMES"]

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
}
"""What the compiled kernels can do as they store."""

ACTIVATION_NAMES: Mapping[type[nn.Module], str] = {nn.ReLU: "relu", nn.ReLU6: "relu6", nn.Hardswish: "hardswish"}
"""Names of the modules that do the same."""
