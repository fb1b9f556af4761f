"""A table of names: a duplicate is an error, and an unknown name is answered with the near ones."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import TypeVar

from drconv.errors import ArgumentError, UnknownNameError

T = TypeVar("T")

__all__ = ["Registry", "unknown_name"]


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Return the error for a name that is not in a table, with near names or, failing those, all of them."""
    names = list(known)
    near = get_close_matches(str(name), names, n=3, cutoff=0.6) if isinstance(name, str) else []
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif len(names) <= 12:
        hint = f"known: {', '.join(names) or 'none'}"
    else:
        hint = f"known: {', '.join(names[:12])}, ... ({len(names)} in all)"
    return UnknownNameError(f"unknown {kind} {name!r}; {hint}")


class Registry(Mapping[str, T]):
    """An insertion-ordered table from names to entries.

    Args:
        kind: what an entry is, as error messages call it.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Add an entry and return it.

        Raises:
            ArgumentError: the name is taken.
        """
        if name in self._entries:
            raise ArgumentError(f"{self.kind} {name!r} is registered twice; choose another name")
        self._entries[name] = entry
        return entry

    def __getitem__(self, name: str) -> T:
        if not isinstance(name, str) or name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
