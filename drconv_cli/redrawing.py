"""`drconv visualize --from`: what a folder of evidence kept, in place of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drconv.errors import FileError
from drconv_cli.output import notice
from drconv_cli.pictures import Measured, Pictures

if TYPE_CHECKING:
    from drconv.regions import Evidence

__all__ = ["Redrawing", "open_redrawing"]


@dataclass(frozen=True)
class Redrawing(Pictures):
    """Images that were measured earlier.

    Attributes:
        evidence: the folder.
        places: of the images in it, by path.
        force: whether files are replaced.
        patterns: whether region maps have hatches.
    """

    evidence: Evidence
    places: dict[Path, int]
    force: bool
    patterns: bool

    @property
    def title(self) -> str:
        """What the model is called."""
        return self.evidence.title

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines below every picture."""
        return self.evidence.notes

    @property
    def paths(self) -> list[Path]:
        """The images in their order, also those that were left out."""
        return list(self.places)

    @property
    def full(self) -> bool:
        """Whether all statistics were measured."""
        return bool(self.arguments.get("statistics") == "full")

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the command that measured."""
        return _dictionary(self.evidence, "arguments")

    @property
    def environment(self) -> dict[str, Any]:
        """Of the machine that measured."""
        return _dictionary(self.evidence, "environment")

    def measure(self, path: Path) -> Measured:
        """Return what was measured."""
        kept = self.evidence.load(self.places[path])
        for note in kept.notes:
            notice(f"{path}: {note}")
        return Measured(kept, kept.statistics, kept.guided_masks, kept.margins)

    @contextmanager
    def measuring(self, paths: Sequence[Path]) -> Iterator[Callable[[Path], Measured]]:
        """Yield what returns what was measured on an image."""
        yield self.measure


def open_redrawing(folder: Path, force: bool, patterns: bool) -> Redrawing:
    """Open an evidence folder.

    Raises:
        FileError: it is damaged or none, or lacks what `drconv visualize` writes.
    """
    from drconv.regions import read_evidence

    evidence = read_evidence(folder)
    places = {Path(image.name): place for place, image in enumerate(evidence.images)}
    if len(places) < len(evidence.images):
        raise FileError(f"{folder} is damaged or not what it claims to be: it names an image twice")
    opened = Redrawing(evidence, places, force, patterns)
    _ = opened.arguments, opened.environment  # said before anything is drawn
    return opened


def _dictionary(evidence: Evidence, key: str) -> dict[str, Any]:
    found = evidence.about.get(key)
    if not isinstance(found, dict):
        raise FileError(f"{evidence.folder} was not written by drconv visualize --evidence: it has no {key!r}")
    return found
