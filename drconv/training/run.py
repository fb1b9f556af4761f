"""A training run in a folder: checkpoints, log and weights, from its start or from where it was interrupted."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from drconv.atomic_write import write_atomically
from drconv.errors import FileError, StoppedError, TrainingError
from drconv.models import ModelDescription, SaveDtype, save_weights
from drconv.training.report import TrainingReport
from drconv.training.state import data_identity, pack, read_state, restore
from drconv.training.trainer import EpochRecord, Trainer

__all__ = ["RunFiles", "run_training"]

Progress = Callable[[str, int, int], None]


def _ignore(*_: Any) -> None:
    """Take no notice."""


@dataclass(frozen=True)
class RunFiles:
    """The files of a run.

    Attributes:
        folder: of all of them.
    """

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """What training goes on from."""
        return self.folder / "checkpoint.safetensors"

    @property
    def weights(self) -> Path:
        """The result, with the description of its model."""
        return self.folder / "weights.safetensors"

    @property
    def log(self) -> Path:
        """One line of JSON per epoch."""
        return self.folder / "log.jsonl"

    @property
    def curves(self) -> Path:
        """A picture of the log."""
        return self.folder / "curves.png"

    @property
    def all(self) -> list[Path]:
        """Every file."""
        return [self.checkpoint, self.weights, self.log, self.curves]


def run_training(
    trainer: Trainer,
    description: ModelDescription,
    files: RunFiles,
    *,
    resume: bool = False,
    checkpoint_every: int | None = None,
    save_dtype: SaveDtype = "float32",
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress = _ignore,
    on_epoch: Callable[[EpochRecord], None] = _ignore,
    notice: Callable[[str], None] = _ignore,
) -> TrainingReport:
    """Train to the end, writing a checkpoint after every epoch.

    The process that leads writes; with several machines all of them must see the folder to resume.

    Args:
        trainer: fresh.
        description: of its model.
        files: where to.
        resume: whether to go on from the checkpoint in the folder; without one there, training starts.
        checkpoint_every: also write a checkpoint each time that so many steps of an epoch are done.
        save_dtype: of the weights at the end.
        should_stop: asked after every step; if it says so in any process, a checkpoint is written and training ends.
        progress: called with (what, steps done, steps).
        on_epoch: called by the process that leads with the record of each epoch that ends.
        notice: called by the process that leads with what a reader should know.

    Returns:
        What was reached.

    Raises:
        StoppedError: `should_stop` said so; the checkpoint is written.
        TrainingError: loss or gradients are not finite; the last checkpoint is kept.
        CheckpointError: the checkpoint is of another model, other data or other options.
        FileError: a file cannot be written; what it held before is kept.
    """
    run = _Run(trainer, description, files)
    found = trainer.team.gather(resume and files.checkpoint.exists())
    if len(set(found)) > 1:
        raise FileError(f"{files.checkpoint} is not seen by all processes; its folder must be shared by all machines")
    if found[0]:
        run.resume(notice)
    run.write_log()
    total = trainer.steps_per_epoch
    while trainer.epoch < trainer.options.epochs:
        name = f"epoch {trainer.epoch + 1} of {trainer.options.epochs}"
        start, done = perf_counter(), trainer.step
        for _ in trainer.steps():
            progress(name, trainer.step, total)
            if trainer.team.largest(int(should_stop()))[0]:
                run.stop()
            if checkpoint_every and trainer.step % checkpoint_every == 0 and trainer.step < total:
                run.keep()
        # An epoch that was resumed has no time: its first part was timed by another process.
        seconds = perf_counter() - start if done == 0 else None
        record = trainer.finish_epoch(seconds, should_stop, progress)
        if record is None:
            run.stop()
        else:
            run.keep()
            run.write_log()
            if trainer.team.leads:
                on_epoch(record)
    if trainer.team.leads:
        trained = {
            "data": {"name": trainer.data.name} | data_identity(trainer.data),
            "options": trainer.options.to_dict(),
        }
        trained |= {"validation": trainer.history[-1]["validation"]}
        state = trainer.weights.state_dict()
        save_weights(files.weights, state, replace(description, trained=trained), save_dtype)
    return TrainingReport(description.model, trainer.data.name, tuple(trainer.history), str(files.weights))


class _Run:
    """The files of one run as it goes on."""

    def __init__(self, trainer: Trainer, description: ModelDescription, files: RunFiles) -> None:
        self.trainer, self.description, self.files = trainer, description, files

    def resume(self, notice: Callable[[str], None]) -> None:
        trainer = self.trainer
        warnings = restore(trainer, read_state(self.files.checkpoint), self.description)
        if trainer.team.leads:
            notice(f"going on from {self.files.checkpoint}: epoch {trainer.epoch + 1}, step {trainer.step + 1}")
            for warning in warnings:
                notice(warning)

    def keep(self) -> None:
        # All processes pack, because their counts are gathered; one writes.
        data = pack(self.trainer, self.description)
        if self.trainer.team.leads:
            write_atomically(self.files.checkpoint, data)

    def stop(self) -> None:
        self.keep()
        trainer = self.trainer
        raise StoppedError(
            f"stopped after step {trainer.step} of {trainer.steps_per_epoch} in epoch {trainer.epoch + 1}; "
            f"{self.files.checkpoint} is written, and the same command with --resume goes on from there"
        )

    def write_log(self) -> None:
        """Write the records of all epochs; a few kilobytes, so that none is ever there twice or in part.

        Before the first epoch there is no log, nor that of an older run.
        """
        if not self.trainer.team.leads:
            return
        if self.trainer.history:
            write_atomically(self.files.log, _lines(self.trainer.history))
        else:
            _remove(self.files.log)


def _remove(path: Path) -> None:
    """Remove a file if it is there.

    Raises:
        FileError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"cannot remove {path}: {error.strerror or error}") from error


def _lines(history: Sequence[EpochRecord]) -> bytes:
    try:
        return "".join(json.dumps(record, allow_nan=False) + "\n" for record in history).encode()
    except ValueError as error:
        raise TrainingError(f"a number of the log is not finite: {error}") from error
