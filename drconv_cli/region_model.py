"""The model whose regions a command draws or compares, and what is said about its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drconv_cli.output import notice
from drconv_cli.target import Target, open_target

__all__ = ["RegionModel", "open_region_model"]


@dataclass(frozen=True)
class RegionModel:
    """A model with regions.

    Attributes:
        target: the model.
        fresh: whether its BatchNorm has seen no data, and takes the statistics of the first image.
        note: where its weights come from, and what that means for the regions; stands below tables and pictures.
    """

    target: Target
    fresh: bool
    note: str

    @property
    def opening(self) -> str:
        """The note for a person at the terminal, who is also told if the model was chosen for them."""
        named = f"no model named, so --model {self.target.name}: " if self.target.is_default else ""
        return named + self.note


def open_region_model(
    model: str | None,
    checkpoint: Path | None,
    device: str,
    seed: int,
    convert: Sequence[str] | None,
    *,
    first: str = "image",
    say: Callable[[str], None] = notice,
) -> RegionModel:
    """Build the named model; where nothing says which, the one that ships with the package, with its trained weights.

    Args:
        model: value of --model.
        checkpoint: of --checkpoint.
        device: of --device.
        seed: of --seed.
        convert: values of --convert.
        first: what a network that has seen no data is calibrated on.
        say: what takes a line on how the model was made.

    Raises:
        CheckpointError: the weights cannot be read or do not fit.
    """
    from drconv.models import has_fresh_batch_norm

    target = open_target(model, checkpoint, device, seed, convert, prefers_demo=True, say=say)
    # A network that has seen no data needs statistics before its regions are more than one.
    fresh = checkpoint is None and has_fresh_batch_norm(target.model)
    note = f"{target.title} with {target.weights}"
    if fresh:
        note += f", BatchNorm statistics of the first {first}"
    if target.is_random:
        note += ": regions show the architecture, not anything learned; give trained weights with --checkpoint"
    return RegionModel(target, fresh, note)
