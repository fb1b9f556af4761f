"""From a data set and lists of indices to batches on a device, in this process or in workers."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from drconv.errors import DrconvError

__all__ = ["Batch", "batches"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Images side by side.

    Attributes:
        images: `[B, 3, H, W]`; None if the batch is empty.
        labels: `[B]`.
        region_maps: true region of every pixel, `[B, H, W]`, or `[B, 0, 0]` where the data has none.
    """

    images: Tensor
    labels: Tensor
    region_maps: Tensor


class _Guarded(Dataset[Any]):
    """Hands our errors over as values: raised in a worker, they would arrive with its whole traceback as message."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except DrconvError as error:
            return error


def batches(
    dataset: Any, order: Sampler[list[int]], *, workers: int, device: torch.device, dtype: torch.dtype
) -> Iterator[Batch | None]:
    """Yield a batch for each list of indices; None for an empty list.

    Args:
        dataset: map-style, of samples with `image`, `label` and `region_map`.
        order: lists of indices.
        workers: processes that make the images; 0 makes them here. The batches are the same.
        device: where to.
        dtype: of the images.

    Raises:
        DrconvError: what the data set raised, or that a worker has been ended.
    """
    loader: DataLoader[Any] = DataLoader(
        _Guarded(dataset),
        batch_sampler=order,
        num_workers=workers,
        collate_fn=_stack,
        pin_memory=device.type == "cuda",
        worker_init_fn=_start_worker if workers else None,
    )
    for found in _unless_workers_die(loader):
        if isinstance(found, DrconvError):
            raise found
        if found is None:
            yield None
        else:
            images, labels, maps = (t.to(device, non_blocking=True) for t in found)
            yield Batch(images.to(dtype), labels, maps)


def _unless_workers_die(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield what a loader does; a worker that the system has ended is an error of ours."""
    coming = iter(loader)
    while True:
        try:
            found = next(coming)
        except StopIteration:
            return
        except RuntimeError as error:
            # What a worker itself has raised names no process.
            if "DataLoader worker (pid" not in str(error):
                raise
            reason = str(error).partition("\n")[0]
            raise DrconvError(
                f"a process that makes images has ended ({reason}); if memory was short, use fewer of them (--workers)"
            ) from error
        yield found


def _stack(samples: Sequence[Any]) -> Any:
    """Return three tensors, or the first error among the samples, or None for no sample."""
    errors = [sample for sample in samples if isinstance(sample, DrconvError)]
    if errors or not samples:
        return errors[0] if errors else None
    labels = torch.tensor([int(sample.label) for sample in samples])
    return torch.stack([s.image for s in samples]), labels, torch.stack([s.region_map for s in samples])


def _start_worker(worker: int) -> None:
    """Let the main process alone decide what a signal to the whole group means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
