"""Memory for the kernels to work in, from PyTorch, and kept from call to call where it is small."""

import torch
from torch import Tensor

__all__ = ["give_back", "take"]

_KEPT_BYTES = 4 << 20
_KEPT = 8
"""At most so many blocks of at most so many bytes stay: about what as many threads of the process work in at once."""

# Taking and giving back are one operation of a list each, so that threads need no lock.
_free: list[Tensor] = []


def take(size: int) -> Tensor:
    """Return at least `size` bytes, aligned to 64. Until it is given back nobody else has it."""
    # In deterministic mode PyTorch fills new memory with NaN, so that what is read unwritten shows.
    if size <= _KEPT_BYTES and not torch.are_deterministic_algorithms_enabled():
        try:
            block = _free.pop()
        except IndexError:
            pass
        else:
            if block.nbytes >= size:
                return block
    return torch.empty(size, dtype=torch.uint8, device="cpu")


def give_back(block: Tensor) -> None:
    """Keep a block for later calls, if it is small."""
    if len(_free) < _KEPT and block.nbytes <= _KEPT_BYTES:
        _free.append(block)
