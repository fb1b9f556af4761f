"""What a precision means: the dtype of the weights, the autocast of a forward pass, and the scaling of a loss."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from drconv.errors import ArgumentError
from drconv.training.options import Precision

__all__ = ["autocast", "check_precision", "weight_dtype"]


def check_precision(precision: Precision, device: torch.device) -> None:
    """Raise where a device cannot train in a precision.

    Raises:
        ArgumentError: float16 off CUDA, or float64 on mps.
    """
    if precision == "float16" and device.type != "cuda":
        raise ArgumentError(f"float16 trains on cuda alone, got {device.type}; use bfloat16 or float32")
    if precision == "float64" and device.type == "mps":
        raise ArgumentError("mps has no float64; use cpu")


def weight_dtype(precision: Precision) -> torch.dtype:
    """Return the dtype of weights, images and optimiser."""
    return torch.float64 if precision == "float64" else torch.float32


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context of a forward pass."""
    if precision in ("bfloat16", "float16"):
        return torch.autocast(device.type, getattr(torch, precision))
    return nullcontext()
