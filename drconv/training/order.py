"""Which images a step takes: a function of seed, epoch, step, process and number of processes, and of nothing else."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from drconv.errors import ArgumentError
from drconv.training.seeds import derived_seed

__all__ = ["EvaluationBatches", "TrainingBatches"]


class TrainingBatches(Sampler[list[int]]):
    """The batches of one process in one epoch, from a step on.

    An epoch is a fresh order of all images, cut into batches of `batch_size`; what is left over is not used in that
    epoch. Every process takes its own equal part of each batch, so that together they take what one would.

    Args:
        size: images in the data set.
        batch_size: images per step, of all processes together.
        seed: of the order.
        epoch: from 0.
        start: first step to yield.
        rank: of this process.
        count: of processes.

    Raises:
        ArgumentError: there is no whole batch, or it cannot be parted equally.
    """

    def __init__(
        self, size: int, batch_size: int, *, seed: int, epoch: int = 0, start: int = 0, rank: int = 0, count: int = 1
    ) -> None:
        if size < batch_size:
            raise ArgumentError(
                f"a batch must not be larger than the training data, got {batch_size} of {size} images; take a smaller "
                "one (--batch-size)"
            )
        if batch_size % count:
            raise ArgumentError(
                f"the batch must be divisible by the number of processes, got {batch_size} images for {count} "
                "processes; take another one (--batch-size)"
            )
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.epoch, self.start, self.rank, self.count = epoch, start, rank, count

    @property
    def steps(self) -> int:
        """Steps of a whole epoch."""
        return self.size // self.batch_size

    def __len__(self) -> int:
        """Return how many batches are yielded."""
        return max(0, self.steps - self.start)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield lists of indices."""
        generator = torch.Generator().manual_seed(derived_seed("order", self.seed, self.epoch))
        order = torch.randperm(self.size, generator=generator).tolist()
        part = self.batch_size // self.count
        for step in range(self.start, self.steps):
            first = step * self.batch_size + self.rank * part
            yield order[first : first + part]


class EvaluationBatches(Sampler[list[int]]):
    """All images once, in order, shared out over processes; each process yields equally many batches, maybe empty.

    Args:
        size: images in the data set.
        batch_size: images per batch of one process.
        rank: of this process.
        count: of processes.
    """

    def __init__(self, size: int, batch_size: int, *, rank: int = 0, count: int = 1) -> None:
        self.size, self.batch_size, self.rank, self.count = size, batch_size, rank, count

    def __len__(self) -> int:
        """Return how many batches are yielded."""
        return -(-self.size // (self.batch_size * self.count))

    def __iter__(self) -> Iterator[list[int]]:
        """Yield lists of indices."""
        mine = range(self.rank, self.size, self.count)
        for batch in range(len(self)):
            yield list(mine[batch * self.batch_size : (batch + 1) * self.batch_size])
