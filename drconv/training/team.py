"""The processes that train together, as `torchrun` starts them; one process needs nothing of this."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from drconv.analysis import find_device

__all__ = ["Team", "join_team"]

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """This process among all.

    Attributes:
        rank: 0 for the one that writes and speaks.
        count: how many there are.
        device: where this process computes.
    """

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def largest(self, *values: int) -> list[int]:
        """Return the largest of each value over all processes; all must call this."""
        if self.count == 1:
            return list(values)
        found = torch.tensor(values, device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return [int(value) for value in found.tolist()]

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes by rank, to all of them; all must call this."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value)
        return found


def first_of(values: Sequence[T | None]) -> T | None:
    """Return the first value that is there."""
    return next((value for value in values if value is not None), None)


@contextmanager
def join_team(device: str = "auto") -> Iterator[Team]:
    """Join the processes that `torchrun` has started, and leave them at the end.

    CUDA processes talk over nccl and take one device each, the others over gloo.

    Args:
        device: as `drconv.analysis.find_device` takes it; with several processes "cuda" is the one of this process's
            local rank.

    Raises:
        ArgumentError: there is no such device.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        yield Team(device=find_device(device))
        return
    where = find_device(device)
    if where.type == "cuda" and device in ("auto", "cuda"):
        where = find_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
    if where.type == "cuda":
        torch.cuda.set_device(where)
    dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    try:
        yield Team(dist.get_rank(), dist.get_world_size(), where)
    finally:
        dist.destroy_process_group()
