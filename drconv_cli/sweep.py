"""The values of --sweep: a grid, and the model at each of its points."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from drconv.errors import ArgumentError
from drconv_cli.conversion import parse_conversion, parse_value

if TYPE_CHECKING:
    from torch import nn

__all__ = ["model_builder", "parse_sweep"]

_FORM = re.compile(r"([A-Za-z_]\w*)=([^=]+)")


def parse_sweep(texts: Sequence[str] | None) -> dict[str, list[Any]]:
    """Read `NAME=V1,V2,...`, once per axis; sizes are H or HxW.

    Raises:
        typer.BadParameter: a text is not in that form, or an axis or a value comes twice.
    """
    axes: dict[str, list[Any]] = {}
    for text in texts or ():
        found = _FORM.fullmatch(text.strip())
        values = [value.strip() for value in found[2].split(",")] if found else []
        if found is None or not all(values):
            raise typer.BadParameter(f"--sweep must be NAME=V1,V2,..., such as num_regions=1,2,4,8, got {text!r}")
        name = found[1]
        if name in axes or len(set(values)) < len(values):
            raise typer.BadParameter(f"--sweep has {name if name in axes else 'a value'!r} twice, got {text!r}")
        axes[name] = [_size(value) if name == "size" else parse_value(value) for value in values]
    return axes


def _size(text: str) -> int | tuple[int, int]:
    """Return H, or (H, W)."""
    found = re.fullmatch(r"([1-9]\d{0,8})(?:x([1-9]\d{0,8}))?", text)
    if found is None:
        raise typer.BadParameter(f"--sweep size must be H or HxW, such as 224 or 224x320, got {text!r}")
    return (int(found[1]), int(found[2])) if found[2] else int(found[1])


def model_builder(name: str, conversions: Sequence[str] | None, axes: Mapping[str, Any]) -> Callable[..., nn.Module]:
    """Return a function from one value per axis to a model.

    An axis is a keyword of the registered model, or of the layers that --convert puts in.

    Raises:
        ArgumentError: an axis is neither.
    """
    from inspect import signature

    from drconv.layers import LAYERS, convert
    from drconv.models import MODELS, create_model, load_model

    parsed = [parse_conversion(text) for text in conversions or ()]
    own = list(signature(MODELS[name].builder).parameters) if name in MODELS else []
    keywords_of = [signature(LAYERS[c.layer]).parameters if c.layer in LAYERS else {} for c in parsed]
    taken = [[name for name in names if name in axes and name not in own] for names in keywords_of]
    for axis in axes:
        if axis != "size" and axis not in own and not any(axis in keywords for keywords in taken):
            known = ", ".join(["size", *own])
            hint = "" if parsed else "; with --convert, keywords of the layer, too"
            raise ArgumentError(f"--sweep cannot vary {axis!r} of {name}; it can: {known}{hint}")

    def build(**keywords: Any) -> nn.Module:
        mine = {key: value for key, value in keywords.items() if key in own}
        model = create_model(name, **mine) if mine else load_model(name)
        for conversion, keys in zip(parsed, taken, strict=True):
            layer_keywords: dict[str, Any] = {**conversion.keywords, **{key: keywords[key] for key in keys}}
            model, _ = convert(model, conversion.layer, conversion.where, **layer_keywords)
        return model

    return build
