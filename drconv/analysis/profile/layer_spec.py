"""A layer to profile on its own, written as `in=96,out=96,size=14,kernel=1,regions=8`."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from drconv.checks import pair, positive
from drconv.errors import ArgumentError
from drconv.layers import FILTER_GENERATORS, DRConv2d
from drconv.registry import unknown_name

__all__ = ["LAYER_KEYS", "LayerSpec", "parse_layer"]


@dataclass(frozen=True)
class LayerSpec:
    """One `DRConv2d` and the map it is given.

    Attributes:
        in_channels, out_channels: C and O.
        size: (H, W) of the input, in pixels.
        kernel_size, stride, padding, dilation: rows first, as in `nn.Conv2d`.
        groups: channel groups.
        num_regions: M.
        filter_generator: pooled, basis or learned.
        bias: whether the layer has one.
    """

    in_channels: int
    out_channels: int
    size: tuple[int, int]
    kernel_size: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    num_regions: int = 8
    filter_generator: str = "pooled"
    bias: bool = False

    def __str__(self) -> str:
        """Return the text that makes this layer."""
        found = {key: _written(getattr(self, name)) for key, (name, _) in LAYER_KEYS.items()}
        return ",".join(f"{key}={value}" for key, value in found.items())

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> DRConv2d:
        """Make the layer, with random weights.

        Raises:
            ArgumentError: the numbers describe no convolution.
        """
        layer = DRConv2d(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding, self.dilation,
            self.groups, self.bias, device=device, dtype=dtype,
            num_regions=self.num_regions, filter_generator=self.filter_generator,
        )  # fmt: skip
        layer.output_size(*self.size)
        return layer

    def changed(self, settings: Mapping[str, Any]) -> "LayerSpec":
        """Return this layer with some keys of its text changed; padding follows a new kernel unless it is given.

        Raises:
            UnknownNameError: there is no such key.
        """
        given = {key: _written(value) for key, value in settings.items()}
        for key in given:
            _known(key)
        values = {LAYER_KEYS[key][0]: LAYER_KEYS[key][1](key, value) for key, value in given.items()}
        made = replace(self, **values)
        centred = tuple(d * (k - 1) // 2 for k, d in zip(self.kernel_size, self.dilation, strict=True))
        if "padding" in given or self.padding != centred:
            return made
        return replace(made, padding=_centred(made))


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return str(value[0]) if value[0] == value[1] else f"{value[0]}x{value[1]}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _centred(spec: LayerSpec) -> tuple[int, int]:
    """Return the padding that keeps the map's size at stride 1."""
    rows, columns = (d * (k - 1) // 2 for k, d in zip(spec.kernel_size, spec.dilation, strict=True))
    return rows, columns


def _number(key: str, text: str) -> int:
    try:
        return positive(key, int(text))
    except ValueError as error:
        raise ArgumentError(f"{key} must be an integer of at least 1, got {key}={text}") from error


def _pair(least: int) -> Callable[[str, str], tuple[int, int]]:
    def read(key: str, text: str) -> tuple[int, int]:
        found = re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", text)
        if found is None:
            raise ArgumentError(f"{key} must be one integer or two, such as 3 or 3x1, got {key}={text}")
        return pair(key, [int(n) for n in found.groups(default=found[1])], least)

    return read


def _flag(key: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ArgumentError(f"{key} must be true or false, got {key}={text}")
    return text.lower() == "true"


def _generator(key: str, text: str) -> str:
    FILTER_GENERATORS[text]
    return text


LAYER_KEYS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "in": ("in_channels", _number),
    "out": ("out_channels", _number),
    "size": ("size", _pair(1)),
    "kernel": ("kernel_size", _pair(1)),
    "stride": ("stride", _pair(1)),
    "padding": ("padding", _pair(0)),
    "dilation": ("dilation", _pair(1)),
    "groups": ("groups", _number),
    "regions": ("num_regions", _number),
    "generator": ("filter_generator", _generator),
    "bias": ("bias", _flag),
}
"""Key of the text -> field, and how its value is read."""


def _known(key: str) -> None:
    if key not in LAYER_KEYS:
        raise unknown_name("key of a layer", key, LAYER_KEYS)


def parse_layer(text: str) -> LayerSpec:
    """Read a layer's text, `key=value` with commas between; `in`, `out` and `size` must be there.

    The padding is that which keeps the map's size at stride 1, unless it is given.

    Raises:
        ArgumentError: the text is not in that form, or a value is none.
        UnknownNameError: a key is not known; the message offers near ones.
    """
    given: dict[str, str] = {}
    for item in text.split(","):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not value:
            raise ArgumentError(
                f"a layer must be KEY=VALUE,..., such as in=96,out=96,size=14,kernel=1,regions=8, got {text!r}"
            )
        _known(key)
        if key in given:
            raise ArgumentError(f"a layer has {key!r} twice, got {text!r}")
        given[key] = value
    missing = [key for key in ("in", "out", "size") if key not in given]
    if missing:
        raise ArgumentError(f"a layer needs in, out and size, got {text!r} without {', '.join(missing)}")
    spec = LayerSpec(**{LAYER_KEYS[key][0]: LAYER_KEYS[key][1](key, value) for key, value in given.items()})
    spec = spec if "padding" in given else replace(spec, padding=_centred(spec))
    spec.build(device=torch.device("meta"))
    return spec
