"""How kernels are started: on the tensors' device and its current stream, with indices as wide as they must be."""

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import torch
import triton
from torch import Tensor

from drconv.errors import BackendError

__all__ = ["is_interpreted", "launch", "needs_wide", "power", "precision", "upcasts"]

_INDEX_LIMIT = 2**31


@triton.jit
def _probe() -> None:
    pass


def is_interpreted() -> bool:
    """Return whether the kernels were made for Triton's interpreter, which is decided when Triton is imported."""
    return not isinstance(_probe, triton.JITFunction)


def launch(kernel: Any, programs: int, device: torch.device, *arguments: Any, **meta: Any) -> None:
    """Start a kernel on so many programs.

    Args:
        kernel: a function under `triton.jit`.
        programs: how many; none starts nothing.
        device: where the tensors are.
        arguments: tensors and numbers in the kernel's order.
        meta: its compile-time values, `num_warps` and `num_stages`.

    Raises:
        BackendError: the kernels were made for another kind of device than this one.
    """
    if programs <= 0:
        return
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        start(kernel, programs, arguments, meta)


def start(kernel: Any, programs: int, arguments: tuple[Any, ...], meta: dict[str, Any]) -> None:
    """Hand a launch to Triton."""
    if arguments[0].device.type == "cpu" and not is_interpreted():
        raise BackendError(
            "backend 'triton' failed: TRITON_INTERPRET=1 was set after Triton had been imported; set it before"
        )
    kernel[(programs,)](*arguments, **meta)


def needs_wide(tensors: Iterable[Tensor]) -> bool:
    """Return whether an element of a tensor may lie 2^31 or more elements from its first."""
    return any(
        sum((size - 1) * abs(stride) for size, stride in zip(t.shape, t.stride(), strict=True)) >= _INDEX_LIMIT
        for t in tensors
    )


def power(value: int, least: int, most: int) -> int:
    """Return the smallest power of two that is no less than a value, within limits that are powers of two."""
    return min(most, max(least, 1 << max(0, value - 1).bit_length()))


def precision(dtype: torch.dtype) -> str:
    """Return how `tl.dot` is to multiply: exactly, or float32 as tf32 where PyTorch's matrix products are."""
    if dtype != torch.float32 or torch.version.hip is not None:
        return "ieee"
    settings = torch.backends.cuda.matmul
    # Reading the older switch raises once somebody has used the newer one.
    asked = getattr(settings, "fp32_precision", None)
    if asked is None:
        return "tf32" if settings.allow_tf32 else "ieee"
    if asked == "none":
        asked = getattr(torch.backends, "fp32_precision", "none")
    return "tf32" if asked == "tf32" else "ieee"


def upcasts(dtype: torch.dtype) -> bool:
    """Return whether operands of a product must be float32, because the interpreter cannot compute in bfloat16."""
    return dtype == torch.bfloat16 and is_interpreted()
