"""One pass over a data set without learning: loss, accuracy, and how the regions are used."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from drconv.analysis import RegionRecording, eval_mode, record_regions
from drconv.errors import ModelError
from drconv.training.classify import classify
from drconv.training.loading import batches
from drconv.training.options import Precision
from drconv.training.order import EvaluationBatches
from drconv.training.precision import autocast, weight_dtype
from drconv.training.tally import Tally
from drconv.training.team import Team

__all__ = ["has_regions", "validate"]

Progress = Callable[[str, int, int], None]


@torch.no_grad()
def validate(
    model: nn.Module,
    dataset: Any,
    num_classes: int,
    *,
    team: Team,
    batch_size: int,
    workers: int = 0,
    precision: Precision = "float32",
    watch_regions: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress | None = None,
) -> Tally | None:
    """Run all images once, shared out over the processes, and return what all of them found.

    Args:
        model: on the team's device; run in eval mode.
        dataset: of samples.
        num_classes: of the data.
        team: all of it must call this.
        batch_size: images per batch of one process.
        workers: processes that make the images.
        precision: of the forward pass.
        watch_regions: whether regions are counted, where the model has any.
        should_stop: asked after every batch; if it says so in any process, all stop.
        progress: called with (what, batches done, batches).

    Returns:
        The same in every process; None if it was stopped.

    Raises:
        DrconvError: what data or model raised.
    """
    order = EvaluationBatches(len(dataset), batch_size, rank=team.rank, count=team.count)
    tally = Tally(num_classes)
    watches = watch_regions and has_regions(model)
    loaded = batches(dataset, order, workers=workers, device=team.device, dtype=weight_dtype(precision))
    with eval_mode(model):
        for done, batch in enumerate(loaded, 1):
            if batch is not None:
                with _watched(model, watches) as recording, autocast(precision, team.device):
                    logits = classify(model, batch.images, num_classes)
                tally.add(logits, batch.labels, F.cross_entropy(logits, batch.labels, reduction="none"))
                if recording is not None:
                    tally.regions.add(recording)
            if progress is not None:
                progress("validation", done, len(order))
            if team.largest(int(should_stop()))[0]:
                return None
    first, *others = team.gather(tally)
    for other in others:
        first.merge(other)
    return first


def has_regions(model: nn.Module) -> bool:
    """Return whether a model has layers with regions."""
    try:
        with record_regions(model):
            return True
    except ModelError:
        return False


@contextmanager
def _watched(model: nn.Module, watches: bool) -> Iterator[RegionRecording | None]:
    if not watches:
        yield None
        return
    with record_regions(model) as recording:
        yield recording
