"""Models by name."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

from torch import nn

from drconv.errors import ArgumentError, DrconvError, ModelError
from drconv.registry import Registry
from drconv.report import Column, Table

__all__ = [
    "ModelList",
    "describe_models",
    "DEFAULT_MODEL",
    "MODELS",
    "InputSize",
    "ModelEntry",
    "create_model",
    "default_input_size",
    "list_models",
    "register_model",
]

DEFAULT_MODEL = "drconv_shufflenet_v2_x0_5"
"""What the commands use when no model is named."""

Builder = Callable[..., nn.Module]
InputSize = tuple[int, int, int]


@dataclass(frozen=True)
class ModelEntry:
    """A registered model.

    Attributes:
        builder: how to build it.
        summary: what it is, in one line.
        input_size: of the images that it was made for, (C, H, W).
    """

    builder: Builder
    summary: str
    input_size: InputSize = (3, 224, 224)


MODELS: Registry[ModelEntry] = Registry("model")


def register_model(
    builder: Builder,
    *,
    name: str | None = None,
    summary: str | None = None,
    input_size: InputSize = (3, 224, 224),
) -> Builder:
    """Register a builder; usable as a decorator.

    Args:
        builder: returns the model; its keyword arguments are the model's.
        name: of the model; the builder's own by default.
        summary: one line; the first of the builder's docstring by default.
        input_size: of the images that the model is made for, (C, H, W).

    Raises:
        ArgumentError: the name is taken.
    """
    if summary is None:
        summary = (builder.__doc__ or "").strip().partition("\n")[0]
    MODELS.add(name or builder.__name__, ModelEntry(builder, summary, input_size))
    return builder


def create_model(name: str, **kwargs: Any) -> nn.Module:
    """Build a registered model with random weights.

    Args:
        name: one of `list_models()`.
        **kwargs: of the model's family, such as `num_classes`, `num_regions` or `filter_generator`.

    Raises:
        UnknownNameError: no model has that name.
        ArgumentError: the family has no such keyword, or its value does not fit.
        ModelError: there is not enough memory.

    Example:
        >>> create_model("drconv_shufflenet_v2_x0_5", num_classes=10, num_regions=4)
    """
    builder = MODELS[name].builder
    try:
        signature(builder).bind(**kwargs)
    except TypeError as error:
        known = ", ".join(p for p in signature(builder).parameters)
        raise ArgumentError(f"model {name!r}: {error}; keywords: {known}") from None
    try:
        return builder(**kwargs)
    except DrconvError:
        raise
    except (RuntimeError, MemoryError) as error:
        first_line = (str(error).strip() or type(error).__name__).partition("\n")[0]
        raise ModelError(f"model {name!r} cannot be built with {kwargs or 'its defaults'}: {first_line}") from error


def list_models() -> list[str]:
    """Return the names of all registered models, sorted."""
    return sorted(MODELS)


def default_input_size(name: str) -> InputSize:
    """Return the size of the images that a registered model is made for, (C, H, W).

    Raises:
        UnknownNameError: no model has that name.
    """
    return MODELS[name].input_size


@dataclass(frozen=True)
class ModelList:
    """All registered models with a line on each."""

    entries: tuple[tuple[str, str], ...]

    def to_table(self) -> Table:
        """Return one row per model."""
        return Table("Models", (Column("name"), Column("what it is")), self.entries)

    def to_dict(self) -> dict[str, Any]:
        """Return a list of names and summaries."""
        return {"models": [{"name": name, "summary": summary} for name, summary in self.entries]}


def describe_models() -> ModelList:
    """Return the names and summaries of all registered models, sorted."""
    return ModelList(tuple((name, MODELS[name].summary) for name in list_models()))
