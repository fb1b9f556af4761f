"""Which convolutions of a model to convert: patterns of names and geometry."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from drconv.errors import ArgumentError, UnknownNameError
from drconv.layers.base import DynamicLayer
from drconv.registry import unknown_name

__all__ = ["TERMS", "Candidate", "Where", "candidates", "choose"]

Where = str | Sequence[str] | Callable[[str, nn.Module], bool]


@dataclass(frozen=True)
class Candidate:
    """A convolution, or a dynamic layer, of a model.

    Attributes:
        names: of the module; more than one if it stands in several places.
        module: the module, with the attributes of `nn.Conv2d`.
        inside: class names of the modules that contain it.
    """

    names: tuple[str, ...]
    module: nn.Conv2d | DynamicLayer
    inside: frozenset[str]

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.names[0]

    @property
    def paths(self) -> list[str]:
        """Names of the modules around it, from the outside, and its own."""
        parts = [name.split(".") for name in self.names]
        return [".".join(own[:end]) for own in parts for end in range(1, len(own) + 1)]

    @property
    def kernel(self) -> str:
        """Kernel size as patterns write it."""
        height, width = self.module.kernel_size
        return f"{height}x{width}"

    @property
    def terms(self) -> list[str]:
        """The words of `TERMS` that hold."""
        return [term for term, holds in TERMS.items() if holds(self.module)]

    def is_called(self, name: str) -> bool:
        """Return whether a pattern matches one of the module's names, or that of a module around it."""
        return any(fnmatchcase(path, name) for path in self.paths)


def _is_depthwise(conv: nn.Conv2d | DynamicLayer) -> bool:
    return conv.groups == conv.in_channels > 1


TERMS: dict[str, Callable[[nn.Conv2d | DynamicLayer], bool]] = {
    "dense": lambda conv: conv.groups == 1,
    "grouped": lambda conv: conv.groups > 1 and not _is_depthwise(conv),
    "depthwise": _is_depthwise,
    "strided": lambda conv: max(conv.stride) > 1,
}
"""Words of a pattern -> what they say of a convolution. One of the first three holds for each."""


def candidates(model: nn.Module) -> list[Candidate]:
    """Return every `nn.Conv2d` and dynamic layer of a model, in order, without what dynamic layers are made of."""
    found: dict[nn.Module, list[str]] = {}
    around: dict[nn.Module, set[str]] = {}

    def visit(module: nn.Module, name: str, above: tuple[nn.Module, ...]) -> None:
        if isinstance(module, nn.Conv2d | DynamicLayer):
            found.setdefault(module, []).append(name)
            # Subclasses count as what they derive from.
            classes = {base.__name__ for parent in above for base in type(parent).__mro__}
            around.setdefault(module, set()).update(classes)
        if isinstance(module, DynamicLayer):
            return
        for child_name, child in module._modules.items():
            if child is not None and child not in above:
                visit(child, f"{name}.{child_name}" if name else child_name, (*above, module))

    visit(model, "", ())
    return [
        Candidate(tuple(names), module, frozenset(around[module]))
        for module, names in found.items()
        if isinstance(module, nn.Conv2d | DynamicLayer)
    ]


def choose(found: Sequence[Candidate], where: Where, kind: str = "convolution") -> list[Candidate]:
    """Return the candidates that patterns or a predicate choose.

    Args:
        found: all there are.
        where: as for `drconv.convert`.
        kind: what error messages call a candidate.

    Raises:
        UnknownNameError: a pattern matches nothing, or has an unknown term.
        ArgumentError: a pattern is not in its form, or a predicate chooses nothing.
    """
    if callable(where):
        chosen = [c for c in found if any(where(name, c.module) for name in c.names)]
        if not chosen:
            raise ArgumentError(f"where chose none of {len(found)} {kind}s; it is called with (name, {kind})")
        return chosen
    patterns = [where] if isinstance(where, str) else where
    if not isinstance(patterns, Sequence) or not patterns or not all(isinstance(p, str) for p in patterns):
        raise ArgumentError(f"where must be a pattern, a sequence of patterns or a function, got where={where!r}")
    kept: dict[Candidate, None] = {}
    for index, pattern in enumerate(patterns):
        matched = _match(found, pattern.removeprefix("!"), kind)
        if not pattern.startswith("!"):
            kept |= dict.fromkeys(matched)
            continue
        if index == 0:
            raise ArgumentError(f"{pattern!r} takes away from the patterns before it; begin with one such as '*'")
        for candidate in matched:
            kept.pop(candidate, None)
    return [candidate for candidate in found if candidate in kept]


def _match(found: Sequence[Candidate], pattern: str, kind: str) -> list[Candidate]:
    name, at, listed = pattern.partition("@")
    terms = listed.split(",") if at else []
    for term in terms:
        if term not in TERMS and not re.fullmatch(r"[1-9]\d*x[1-9]\d*", term):
            raise unknown_name("term", term, [*TERMS, "1x1", "3x3"])
    called = [candidate for candidate in found if candidate.is_called(name)]
    if not called:
        paths = list(dict.fromkeys(path for c in found for path in c.paths if path))
        deeper = [path for path in paths if fnmatchcase(path, f"*.{name}")]
        if deeper:
            raise UnknownNameError(f"unknown {kind} {name!r}; did you mean {' or '.join(deeper[:3])}?")
        raise unknown_name(kind, name, paths)
    matched = [c for c in called if all(term == c.kernel or term in c.terms for term in terms)]
    if not matched:
        kinds = Counter(",".join((c.kernel, *c.terms)) for c in called).most_common(6)
        there = ", ".join(f"{words} ({count})" for words, count in kinds)
        raise UnknownNameError(f"no {kind} of {name!r} is {listed!r}; there are {there}")
    return matched
