"""The model that a command works on, from its options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drconv_cli.output import notice

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Target", "open_target"]


@dataclass(frozen=True)
class Target:
    """A model ready to run.

    Attributes:
        name: what was asked for, or the default.
        model: on `device`, in eval mode.
        device: where it is.
        weights: where they come from, in words.
        is_random: whether they are freshly drawn weights of a registered model.
        arguments: what goes into the envelope.
    """

    name: str
    model: nn.Module
    device: torch.device
    weights: str
    is_random: bool
    arguments: dict[str, Any]


def open_target(model: str | None, checkpoint: Path | None, device: str, seed: int = 0) -> Target:
    """Build the named model, or the default one, with seeded random weights or those of a checkpoint."""
    # torch is imported here and not above, so that help and usage errors come at once.
    import torch

    from drconv.analysis import find_device
    from drconv.models import DEFAULT_MODEL, MODELS, load_checkpoint, load_model

    where = find_device(device)
    if model is None:
        notice(f"no model named: using {DEFAULT_MODEL}")
    name = model or DEFAULT_MODEL
    torch.manual_seed(seed)
    built = load_model(name)
    if checkpoint is not None:
        load_checkpoint(built, checkpoint)
        weights = f"weights of {checkpoint}"
    elif name in MODELS:
        weights = f"random weights (seed {seed})"
    else:
        weights = f"weights as {name.rpartition(':')[2]} made them (seed {seed})"
    arguments = {"model": name, "checkpoint": checkpoint, "device": str(where), "seed": seed}
    is_random = checkpoint is None and name in MODELS
    return Target(name, built.to(where).eval(), where, weights, is_random, arguments)
