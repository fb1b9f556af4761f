"""A CSV file that grows row by row and appears whole or not at all; parts of several processes become one."""

import csv
import heapq
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path

from drconv.errors import FileError
from drconv.report import Cell

__all__ = ["RowsPart", "join_parts", "rows_part"]


class RowsPart:
    """Rows of one process, in a file of their own; the first cell of a row is a rising integer.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w", newline="", encoding="utf-8", errors="replace")
        self._writer = csv.writer(self._file, lineterminator="\n")

    def add(self, rows: Iterable[Sequence[Cell]]) -> None:
        """Write rows.

        Raises:
            FileError: the disk is full, or gone.
        """
        with self._errors():
            self._writer.writerows(rows)

    def close(self) -> None:
        """Finish the file.

        Raises:
            FileError: the disk is full, or gone.
        """
        with self._errors():
            self._file.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FileError(f"cannot write {self.path}: {error.strerror or error}") from error


@contextmanager
def rows_part(directory: Path, rank: int) -> Iterator[RowsPart]:
    """Open this process's part in a directory, and delete it at the end."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        part = RowsPart(directory / f".drconv-rows-{rank}.csv")
    except OSError as error:
        raise FileError(f"cannot write in {directory}: {error.strerror or error}") from error
    try:
        yield part
    finally:
        try:
            part.close()
        finally:
            part.path.unlink(missing_ok=True)


def join_parts(parts: Sequence[Path], header: Sequence[str], to: Path) -> None:
    """Write the rows of all parts to one file, by their first cell."""
    temporary = to.with_name(f".drconv-{to.name}")
    try:
        files = [part.open(newline="", encoding="utf-8") for part in parts]
        try:
            with temporary.open("w", newline="", encoding="utf-8") as joined:
                writer = csv.writer(joined, lineterminator="\n")
                writer.writerow(header)
                rows = [((int(row[0]), row) for row in csv.reader(file)) for file in files]
                writer.writerows(row for _, row in heapq.merge(*rows, key=itemgetter(0)))
        finally:
            for file in files:
                file.close()
        temporary.replace(to)
    except OSError as error:
        raise FileError(f"cannot write {to}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
