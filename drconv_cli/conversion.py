"""The value of --convert: which convolutions become which layer."""

import re
from dataclasses import dataclass

import typer

__all__ = ["Conversion", "parse_conversion", "parse_value"]

_FORM = re.compile(r"(?:(?P<where>[^=:]+)=)?(?P<layer>[^=:]+)(?::(?P<keywords>.+))?")
_KEYWORD = re.compile(r"([A-Za-z_]\w*)=([^=,]+)")
_WORDS = {"true": True, "false": False, "none": None}

Value = bool | int | float | str | None


@dataclass(frozen=True)
class Conversion:
    """One --convert.

    Attributes:
        text: as it was written.
        where: patterns for `drconv.convert`; None for its default choice.
        layer: name of the layer.
        keywords: of the layer.
    """

    text: str
    where: tuple[str, ...] | None
    layer: str
    keywords: dict[str, Value]


def parse_conversion(text: str) -> Conversion:
    """Read `[PATTERN=]LAYER[:KEY=VALUE,...]`; patterns are separated by spaces.

    Raises:
        typer.BadParameter: the text is not in that form, or has a keyword twice.
    """
    found = _FORM.fullmatch(text.strip())
    where = found["where"].split() if found and found["where"] is not None else None
    listed = found["keywords"].split(",") if found and found["keywords"] else []
    pairs = [_KEYWORD.fullmatch(item.strip()) for item in listed]
    if found is None or where == [] or not found["layer"].strip() or None in pairs:
        raise typer.BadParameter(
            "--convert must be [PATTERN=]LAYER[:KEY=VALUE,...], such as 'stage4@3x3=drconv2d:num_regions=4', "
            f"got {text!r}"
        )
    keywords = [(pair[1], pair[2].strip()) for pair in pairs if pair]
    twice = [name for index, (name, _) in enumerate(keywords) if name in dict(keywords[:index])]
    if twice:
        raise typer.BadParameter(f"--convert has {twice[0]!r} twice in {text!r}; give it once")
    for name, _ in keywords:
        if name in ("model", "to", "where"):
            raise typer.BadParameter(f"--convert has {name!r} in {text!r}, which is no keyword of a layer")
    values = {name: parse_value(value) for name, value in keywords}
    return Conversion(text, None if where is None else tuple(where), found["layer"].strip(), values)


def parse_value(text: str) -> Value:
    """Return what a value stands for: true, false, none, an integer, a number, or else its text."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
