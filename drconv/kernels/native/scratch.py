"""Memory for the kernels to work in, from PyTorch, and kept from call to call where it is small."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Block", "give_back", "take"]

_KEPT_BYTES = 4 << 20
_KEPT = 8
"""At most so many blocks of at most so many bytes stay: about what as many threads of the process work in at once."""


class Block(NamedTuple):
    """Memory aligned to 64 bytes: what holds it, how large it is, and where."""

    memory: Tensor
    size: int
    address: int


# Taking and giving back are one operation of a list each, so that threads need no lock.
_free: list[Block] = []


def take(size: int) -> Block:
    """Return at least `size` bytes. Until they are given back nobody else has them."""
    # In deterministic mode PyTorch fills new memory with NaN, so that what is read unwritten shows.
    if _free and size <= _KEPT_BYTES and not torch.are_deterministic_algorithms_enabled():
        try:
            block = _free.pop()
        except IndexError:  # another thread was faster
            pass
        else:
            if block.size >= size:
                return block
    memory = torch.empty(size, dtype=torch.uint8, device="cpu")
    return Block(memory, size, memory.data_ptr())


def give_back(block: Block) -> None:
    """Keep a block for later calls, if it is small."""
    if block.size <= _KEPT_BYTES and len(_free) < _KEPT:
        _free.append(block)
