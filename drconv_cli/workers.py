"""The processes that share a command's images, as `torchrun` starts them; one process needs nothing of this."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["Workers", "workers"]

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Workers:
    """This process among all.

    Attributes:
        rank: 0 for the one that writes and speaks.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def share(self, items: Sequence[_Item]) -> list[tuple[int, _Item]]:
        """Return this process's part of the items, with their places among all."""
        return list(enumerate(items))[self.rank :: self.count]

    def gather(self, value: _Item) -> list[_Item]:
        """Return the values of all processes, by rank; to those that do not lead, an empty list."""
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] | None = [None] * self.count if self.leads else None
        dist.gather_object(value, found)
        return found or []


@contextmanager
def workers() -> Iterator[Workers]:
    """Join the processes that `torchrun` has started, and leave them at the end."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        yield Workers()
        return
    import torch.distributed as dist

    dist.init_process_group("gloo")
    try:
        yield Workers(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
