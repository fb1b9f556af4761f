"""Names and shapes of other people's DRConv weights, in terms of ours."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import Size, Tensor

from drconv.registry import Registry

__all__ = ["LAYOUTS", "Layout", "recognise"]


@dataclass(frozen=True)
class Layout:
    """How somebody names and shapes the tensors of a state dict.

    Attributes:
        owner: whose it is, and what our model must be.
        is_of: from all names to whether a state dict is in this layout.
        rename: from one of their names to ours; a name that the layout does not have stays as it is.
        reshape: from one of their tensors and the shape of ours to our tensor; what does not fit stays as it is.
    """

    owner: str
    is_of: Callable[[Collection[str]], bool]
    rename: Callable[[str], str]
    reshape: Callable[[Tensor, Size], Tensor] = lambda tensor, shape: tensor


_UNOFFICIAL = {
    "conv_kernel.1": "filter_generator.reduce",
    "conv_kernel.3": "filter_generator.expand",
    "conv_guide": "guide",
}
_UNOFFICIAL_NAME = re.compile(r"((?:.*\.)?)(conv_kernel\.1|conv_kernel\.3|conv_guide)(\.weight|\.bias)")


def _is_unofficial(names: Collection[str]) -> bool:
    found = (_UNOFFICIAL_NAME.fullmatch(name) for name in names)
    parts: dict[str, set[str]] = {}
    for match in found:
        if match:
            parts.setdefault(match[1], set()).add(match[2])
    return any(len(seen) == len(_UNOFFICIAL) for seen in parts.values())


def _rename_unofficial(name: str) -> str:
    match = _UNOFFICIAL_NAME.fullmatch(name)
    return f"{match[1]}{_UNOFFICIAL[match[2]]}{match[3]}" if match else name


# The longer of two names that begin alike stands first.
_RELEASED_ENDS = {
    "conv_first.conv.": "conv1.0.",
    "conv_first.bn.": "conv1.1.",
    "conv_last.conv.": "conv5.0.",
    "conv_last.bn.": "conv5.1.",
    "classifier.": "fc.",
}
_RELEASED_BLOCK = {
    "masknet.": "guide.",
    "conva_left.conv.": "branch1.0.",
    "conva_left.bn.": "branch1.1.",
    "convb_left.conv.": "branch1.2.",
    "convb_left.bn.": "branch1.3.",
    "conva_right.conv.routing_fc.": "branch2.0.filter_generator.routing.",
    "conva_right.conv.weight": "branch2.0.filter_generator.bases",
    "conva_right.bn.": "branch2.1.",
    "convb_right.conv.": "branch2.3.",
    "convb_right.bn.": "branch2.4.",
    "convc_right.conv.routing_fc.": "branch2.5.filter_generator.routing.",
    "convc_right.conv.weight": "branch2.5.filter_generator.bases",
    "convc_right.bn.": "branch2.6.",
}
_RELEASED_NAME = re.compile(r"stage([123])_block([1-9]\d*)\.(.*)")


def _is_released(names: Collection[str]) -> bool:
    return "conv_first.conv.weight" in names and any(_RELEASED_NAME.fullmatch(name) for name in names)


def _rename_released(name: str) -> str:
    match = _RELEASED_NAME.fullmatch(name)
    if match is None:
        return _swap_start(name, _RELEASED_ENDS)
    stage, block, part = int(match[1]) + 1, int(match[2]) - 1, match[3]
    ours = _swap_start(part, _RELEASED_BLOCK)
    return name if ours == part else f"stage{stage}.{block}.{ours}"


def _swap_start(name: str, starts: Mapping[str, str]) -> str:
    for theirs, ours in starts.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _reshape_released(tensor: Tensor, shape: Size) -> Tensor:
    """Turn their bases, [O*C*K*K, experts], into ours, [experts, O, C*K*K]."""
    if len(shape) == 3 and tensor.shape == (shape[1] * shape[2], shape[0]):
        return tensor.t().reshape(shape)
    return tensor


LAYOUTS: Registry[Layout] = Registry("layout")
LAYOUTS.add(
    "unofficial",
    Layout(
        "shallowtoil/DRConv-PyTorch, for DRConv2d(..., filter_generator='pooled', bias=False)",
        _is_unofficial,
        _rename_unofficial,
    ),
)
LAYOUTS.add(
    "released",
    Layout(
        "megvii-research/DRConv, for drconv_shufflenet_v2_WIDTH_released",
        _is_released,
        _rename_released,
        _reshape_released,
    ),
)


def recognise(names: Collection[str]) -> str | None:
    """Return the layout that names of tensors are in, None if it is none of `LAYOUTS`."""
    return next((layout for layout, entry in LAYOUTS.items() if entry.is_of(names)), None)
