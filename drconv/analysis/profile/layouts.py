"""The two layouts of a feature map: which one a tensor has, and arguments and modules brought into one."""

from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from drconv.analysis.profile.options import LAYOUTS
from drconv.kernels import memory_format_of

__all__ = ["arguments_in", "layout_of", "module_in", "tensor_in"]

Module = TypeVar("Module", bound=nn.Module)


def layout_of(tensor: Tensor) -> str:
    """Return "channels_last" where the strides of a `[B, C, H, W]` tensor run that way, else "NCHW"."""
    is_last = tensor.dim() == 4 and memory_format_of(tensor) == torch.channels_last
    return "channels_last" if is_last else "NCHW"


def tensor_in(tensor: Tensor, layout: str) -> Tensor:
    """Return a tensor in a layout; one that is not `[B, C, H, W]` as it is."""
    return tensor.contiguous(memory_format=LAYOUTS[layout]) if tensor.dim() == 4 else tensor


def arguments_in(args: tuple[Any, ...], layout: str) -> tuple[Any, ...]:
    """Return the arguments of a call with every feature map in a layout."""
    return tuple(tensor_in(arg, layout) if isinstance(arg, Tensor) else arg for arg in args)


def module_in(module: Module, layout: str) -> Module:
    """Return a copy of a module with its convolutions' weights in a layout."""
    copy: Module = deepcopy(module).to(memory_format=LAYOUTS[layout])  # type: ignore[call-overload]
    return copy
