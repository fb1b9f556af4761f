"""The model that a command works on, from its options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drconv.errors import ArgumentError, CheckpointError
from drconv_cli.conversion import parse_conversion
from drconv_cli.output import notice

if TYPE_CHECKING:
    import torch
    from torch import nn

    from drconv.models import ModelDescription

__all__ = ["Target", "open_target"]

_UNTRAINED = "; what --convert adds is untrained"


@dataclass(frozen=True)
class Target:
    """A model ready to run.

    Attributes:
        name: what was asked for, or what --checkpoint says it is for, or the default.
        title: the model's name, with what --convert put in.
        model: on `device`, in eval mode.
        device: where it is.
        input_size: of the images that it was made for, (C, H, W).
        weights: where they come from, in words.
        is_random: whether they are freshly drawn weights of a model that has a name.
        is_default: whether neither the user nor the checkpoint said which model it is.
        arguments: what goes into the envelope.
    """

    name: str
    title: str
    model: nn.Module
    device: torch.device
    input_size: tuple[int, int, int]
    weights: str
    is_random: bool
    is_default: bool
    arguments: dict[str, Any]


def open_target(
    model: str | None,
    checkpoint: Path | None,
    device: str,
    seed: int = 0,
    convert: Sequence[str] | None = None,
    *,
    allow_meta: bool = False,
    prefers_demo: bool = False,
    say: Callable[[str], None] = notice,
) -> Target:
    """Build the named model, or the default one, with seeded random weights or those of a checkpoint.

    Args:
        model: as `drconv.models.load_model` takes it. None takes the one that the checkpoint says it is for.
        checkpoint: weights; if they describe the model, it is built as they say. With conversions they are loaded
            before these if the names of all tensors are those of the network as it was built, and after them otherwise.
        device: where to.
        seed: of random weights.
        convert: values of --convert, applied in order.
        allow_meta: whether the device may be "meta", where tensors have shapes and no values.
        prefers_demo: whether without a model, a checkpoint and a conversion it is the one that ships with the package,
            with its weights. Which model was taken is then not said here: `drconv_cli.region_model` says it together
            with the weights.
        say: what takes a line on how the model was made.

    Raises:
        CheckpointError: the weights cannot be read or do not fit.
    """
    # torch is imported here and not above, so that help and usage errors come at once.
    import torch

    from drconv.analysis import find_device
    from drconv.models import DEFAULT_MODEL, DEMO, DEMO_REMARK, has_random_weights, input_size_of

    on_meta = allow_meta and device == "meta"
    where = torch.device("meta") if on_meta else find_device(device)
    default = DEMO if prefers_demo and checkpoint is None and not convert else DEFAULT_MODEL
    name, weights_file, description, is_default = _identify(model, checkpoint, default)
    if model is None and not prefers_demo:
        say(f"no model named: using {name}" if is_default else f"{checkpoint} is for {name}")
    torch.manual_seed(seed)
    with torch.device("meta") if on_meta else nullcontext():
        built = _build(name, description)
    size = input_size_of(name, built) if description is None else description.input_size
    is_random = weights_file is None and has_random_weights(name)
    if weights_file is not None and not on_meta:
        advice = f"; no model is named, so {name} was taken: give theirs with --model" if is_default else ""
        built, weights, done = _load(built, weights_file, convert, advice, say)
    else:
        built, done = _convert(built, convert, say)
        made = f"weights as {name.rpartition(':')[2]} made them (seed {seed})"
        weights = f"random weights (seed {seed})" if is_random else made + (_UNTRAINED if done else "")
    if name == DEMO:
        weights = f"the weights that ship with drconv ({DEMO_REMARK})" + weights.partition(str(weights_file))[2]
    asked_file = None if name == DEMO else weights_file
    arguments: dict[str, Any] = {"model": name, "checkpoint": asked_file, "device": str(where), "seed": seed}
    arguments |= {"convert": list(convert or ()), "converted": done}
    layers = ", ".join(dict.fromkeys(parse_conversion(text).layer for text in convert or ()))
    built_as = name if description is None else description.model
    title = f"{built_as} ({layers})" if layers else built_as
    return Target(name, title, built.to(where).eval(), where, size, weights, is_random, is_default, arguments)


def _identify(
    model: str | None, checkpoint: Path | None, default: str
) -> tuple[str, Path | None, ModelDescription | None, bool]:
    """Return the model's name, the file of its weights, what that file says about it, and whether nobody named it.

    What the file says is None where it is about another model.

    Raises:
        CheckpointError: a file of weights that stands for a model does not say which.
    """
    from drconv.models import described_without_code, is_weights_file, read_description, weights_file

    if model is not None and checkpoint is not None and is_weights_file(model):
        raise ArgumentError(f"{model} holds weights already; give it or --checkpoint {checkpoint}, not both")
    description = None if checkpoint is None else read_description(checkpoint)
    if model is None and checkpoint is not None and description is not None:
        description = described_without_code(checkpoint)
        return description.model, checkpoint, description, False
    name = default if model is None else model
    if is_weights_file(name):
        return name, weights_file(name), described_without_code(weights_file(name)), model is None
    # Weights of another model say nothing about this one; whether they fit, their names and shapes will tell.
    fitting = None if description is None or not _same_model(description.model, name) else description
    return name, checkpoint, None if fitting is None else replace(fitting, model=name), model is None


def _same_model(one: str, other: str) -> bool:
    """Return whether two names are of one model, be it a factory in the same file that is reached by another path."""
    (file, _, factory), (its_file, _, its_factory) = one.rpartition(":"), other.rpartition(":")
    same_file = file.endswith(".py") and Path(file).name == Path(its_file).name
    return one == other or (same_file and factory == its_factory)


def _build(name: str, description: ModelDescription | None) -> nn.Module:
    from drconv.models import build_described, load_model

    return load_model(name) if description is None else build_described(description)


def _load(
    model: nn.Module, checkpoint: Path, conversions: Sequence[str] | None, advice: str, say: Callable[[str], None]
) -> tuple[nn.Module, str, list[str]]:
    """Load weights, and convert before or after; return the model, its weights in words, and what `_convert` did.

    Raises:
        CheckpointError: the weights cannot be read, or do not fit, which the advice follows.
    """
    from drconv.models import fits_by_name, load_state, read_state_dict

    state = read_state_dict(checkpoint)
    loads_first = not conversions or fits_by_name(model, state, checkpoint)
    done: list[str] = []
    if not loads_first:
        model, done = _convert(model, conversions, say)
    try:
        loaded = load_state(model, state, checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"{error}{advice}") from error
    if loaded.is_foreign:
        say(loaded.summary)
    weights = f"weights of {checkpoint}"
    if loads_first and conversions:
        model, done = _convert(model, conversions, say)
        weights += f", loaded before --convert{_UNTRAINED}"
    elif conversions:
        weights += ", loaded after --convert"
    return model, weights, done


def _convert(
    model: nn.Module, conversions: Sequence[str] | None, say: Callable[[str], None]
) -> tuple[nn.Module, list[str]]:
    """Apply conversions in order, and return what each did in one line, after saying it.

    Raises:
        ArgumentError: a conversion replaces nothing.
    """
    from drconv.layers import convert

    done = []
    for conversion in map(parse_conversion, conversions or ()):
        keywords: dict[str, Any] = conversion.keywords
        model, report = convert(model, conversion.layer, conversion.where, **keywords)
        line = f"--convert {conversion.text!r}: {report.summary}"
        if not report.changed:
            raise ArgumentError(line)
        say(line)
        done.append(line)
    return model, done
