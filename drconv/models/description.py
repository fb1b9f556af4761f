"""What a file of weights says about its model, so that it can be built again without being told which it is."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from drconv.errors import ArgumentError, CheckpointError
from drconv.layers import ConversionReport, convert
from drconv.models.build import build_model
from drconv.models.collection import COLLECTIONS
from drconv.models.registry import MODELS, InputSize

__all__ = ["METADATA_KEY", "ConvertedLayers", "ModelDescription", "build_described"]

METADATA_KEY = "drconv"
"""Of the safetensors metadata; its value is JSON."""

_SCHEMA = 1


@dataclass(frozen=True)
class ConvertedLayers:
    """One call of `drconv.convert`.

    Attributes:
        layer: name of the layer.
        where: patterns; None for its default choice.
        keywords: of the layer.
    """

    layer: str
    where: tuple[str, ...] | None = None
    keywords: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelDescription:
    """How to build a model again, and what it was made for.

    Attributes:
        model: as `build_model` takes it.
        arguments: keywords of its builder.
        converted: what was replaced in it afterwards, in order.
        input_size: of its images, (C, H, W).
        class_names: of its outputs, in order; empty if they have none.
        trained: how it was trained, JSON-ready, for the reader only.
    """

    model: str
    arguments: dict[str, Any] = field(default_factory=dict)
    converted: tuple[ConvertedLayers, ...] = ()
    input_size: InputSize = (3, 224, 224)
    class_names: tuple[str, ...] = ()
    trained: dict[str, Any] = field(default_factory=dict)

    @property
    def runs_code(self) -> bool:
        """Whether building the model runs a user's file or module, which a file of weights must not cause."""
        return self.model not in MODELS and self.model.partition(":")[0] not in COLLECTIONS

    def to_json(self) -> str:
        """Return the value for the metadata; equal descriptions give equal texts."""
        return json.dumps({"schema": _SCHEMA, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, path: object) -> "ModelDescription":
        """Read what `to_json` gave; `path` is for messages.

        Raises:
            CheckpointError: it is damaged, or of a later release.
        """
        try:
            found = json.loads(text)
            if found["schema"] != _SCHEMA:
                raise CheckpointError(
                    f"{path} describes its model in schema {found['schema']!r}, and this release reads {_SCHEMA}"
                )
            channels, height, width = (_whole(n) for n in found["input_size"])
            return cls(
                _text(found["model"]),
                _keywords(found["arguments"]),
                tuple(_converted(entry) for entry in found["converted"]),
                (channels, height, width),
                tuple(_text(name) for name in found["class_names"]),
                dict(found["trained"]),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckpointError(
                f"{path} has a damaged description of its model ({type(error).__name__}: {error}); name the model"
            ) from error


def _converted(entry: Mapping[str, Any]) -> ConvertedLayers:
    where = entry["where"]
    return ConvertedLayers(
        _text(entry["layer"]), None if where is None else tuple(_text(x) for x in where), _keywords(entry["keywords"])
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, got {value!r}")
    return value


def _keywords(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"expected keywords by name, got {value!r}")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise TypeError(f"expected a positive integer, got {value!r}")
    return value


def build_described(
    description: ModelDescription, on_converted: Callable[[ConversionReport], None] | None = None
) -> nn.Module:
    """Build a model with random weights as its description says.

    Args:
        description: what to build.
        on_converted: called with what each conversion did, in order.

    Raises:
        UnknownNameError, ArgumentError, ModelError: this release cannot build it, or a conversion replaces nothing.
    """
    model = build_model(description.model, **description.arguments)
    for entry in description.converted:
        model, report = convert(model, entry.layer, entry.where, **entry.keywords)
        if not report.changed:
            raise ArgumentError(f"{description.model}, to {entry.layer!r}: {report.summary}")
        if on_converted is not None:
            on_converted(report)
    return model
