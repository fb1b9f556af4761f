"""`drconv visualize --evidence`: a folder that shows and proves what was measured, and can be drawn again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drconv.errors import FileError
from drconv_cli.pictures import Measured
from drconv_cli.target import Target
from drconv_cli.workers import Workers

if TYPE_CHECKING:
    from drconv.regions import EvidenceWriter

__all__ = ["Keeping"]


class Keeping:
    """Keeps what each image gave; every process keeps its own part, and the one that leads joins them.

    Args:
        folder: where to; None keeps nothing.
        output: directory of the pictures, which must be another.
        force: whether an evidence folder of that name is replaced.
        sources: file of an image that is called otherwise.

    Raises:
        FileError: the folder could not be written.
    """

    def __init__(self, folder: Path | None, output: Path, force: bool, sources: Mapping[Path, Path]) -> None:
        self._folder, self._force, self._sources = folder, force, sources
        self._writer: EvidenceWriter | None = None
        if folder is None:
            return
        from drconv.regions import check_evidence_free

        check_evidence_free(folder, force)
        if output.resolve().is_relative_to(folder.resolve()):
            raise FileError(f"--output must lie outside the evidence folder, got {output} and {folder}")

    def start(self, stack: ExitStack) -> None:
        """Make a folder of a temporary name, which goes away with the stack unless `finish` gives it its own."""
        if self._folder is not None:
            from drconv.regions import EvidenceWriter

            self._writer = stack.enter_context(EvidenceWriter(self._folder))

    def add(self, index: int, path: Path, measured: Measured) -> None:
        """Keep one image."""
        if self._writer is not None:
            found = (measured.statistics, measured.guided_masks, measured.margins)
            source = self._sources.get(path, path)
            self._writer.add(index, str(path), source, measured.image.pixels, *found, measured.image.notes)

    def fail(self, index: int, path: Path, error: str) -> None:
        """Keep why an image was left out."""
        if self._writer is not None:
            self._writer.fail(index, str(path), error)

    def gather(self, team: Workers) -> None:
        """Take over what the other processes kept."""
        if self._writer is not None:
            for path, entries in team.gather((self._writer.path, self._writer.entries))[1:]:
                self._writer.absorb(path, entries)

    def finish(
        self,
        target: Target,
        notes: Sequence[str],
        data: dict[str, Any],
        statistics: bytes,
        pictures: Sequence[Path],
        rows: Path | None,
    ) -> None:
        """Write the manifest and give the folder its name.

        Args:
            target: the model.
            notes: lines below every picture.
            data: the envelope.
            statistics: the same, as it was written.
            pictures: files to copy.
            rows: CSV of all images.
        """
        if self._writer is None:
            return
        from drconv.regions import sha256_of

        checkpoint = target.arguments["checkpoint"]
        about = {
            "model": target.name,
            "weights": {
                "text": target.weights,
                "sha256": None if checkpoint is None else sha256_of(Path(checkpoint)),
            },
            "arguments": data["arguments"],
            "environment": data["environment"],
        }
        self._writer.finish(target.title, notes, about, statistics, pictures, rows, self._force)
