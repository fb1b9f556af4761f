"""Parameters of generators in the order in which the fused call reads them: made once per version, and kept.

Kept beside the parameter, not in it: a state dict, a pickle or a copy of a module knows nothing of them.
"""

import weakref
from ctypes import addressof
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from drconv.kernels.native.library import Layer, Library, Parameters
from drconv.kernels.native.plan import check

__all__ = ["forget", "packed", "version"]


def version(tensor: Tensor | None) -> tuple[int, int] | None:
    """Return what changes when a tensor is written to, or given other memory; not when it is written to by `.data`.

    Raises:
        RuntimeError: it is an inference tensor, which counts no versions.
    """
    return None if tensor is None else (tensor.data_ptr(), tensor._version)


@dataclass(frozen=True, eq=False)
class _Entry:
    of: "weakref.ref[Tensor]"
    key: tuple[Any, ...]
    memory: Tensor
    # Their memory cannot be given to other tensors while this lives, so that equal addresses mean the same memory.
    originals: tuple[Tensor | None, ...]


_entries: dict[int, _Entry] = {}


def packed(native: Library, layer: Layer, weight: Tensor, bias: Tensor | None, anew: bool) -> Tensor:
    """Return the packed form of a generator's parameters.

    Args:
        native: the kernels that will read it.
        layer: whose generator it is.
        weight: what filters are mixed of.
        bias: its bias.
        anew: whether what was kept has been found to be out of date.
    """
    conv = layer.conv
    sizes = (conv.regions, conv.in_channels, conv.out_channels, conv.groups, conv.kernel_h, conv.kernel_w)
    counted = not weight.is_inference() and (bias is None or not bias.is_inference())
    key = (native, layer.generator, layer.mixed, sizes, counted and (version(weight), version(bias)))
    entry = _entries.get(id(weight))
    if counted and not anew and entry is not None and entry.of() is weight and entry.key == key:
        return entry.memory
    memory = _pack(native, layer, weight, bias)
    if counted:
        number = id(weight)
        reference = weakref.ref(weight, lambda dead: _drop(number, dead))
        originals = (weight.detach(), None if bias is None else bias.detach())
        _entries[number] = _Entry(reference, key, memory, originals)
    return memory


def forget(weight: Tensor | None) -> None:
    """Free the packed form of a parameter, if there is one."""
    _entries.pop(id(weight), None)


def _drop(number: int, dead: "weakref.ref[Tensor]") -> None:
    entry = _entries.get(number)
    if entry is not None and entry.of is dead:
        _entries.pop(number, None)


def _pack(native: Library, layer: Layer, weight: Tensor, bias: Tensor | None) -> Tensor:
    sizes, functions = addressof(layer), native.functions
    memory = torch.empty(functions["packed_size"](native.isa, sizes), dtype=torch.uint8)
    parameters = Parameters(made_weight=weight.data_ptr(), made_bias=None if bias is None else bias.data_ptr())
    check(functions["pack"](native.isa, sizes, addressof(parameters), memory.data_ptr()))
    return memory
