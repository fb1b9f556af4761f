"""Write a file whole or not at all, so that a full disk or a killed process leaves the one before as it was."""

import os
import tempfile
from pathlib import Path

from drconv.errors import FileError

__all__ = ["write_atomically"]


def write_atomically(path: Path, data: bytes) -> None:
    """Write under a temporary name beside the file, flush to the disk, and only then take the file's name.

    Args:
        path: of the file; its folder is made if there is none. A link is kept, and what it leads to is replaced.
        data: all of it.

    Raises:
        FileError: it cannot be written; what the file held before is still there.
    """
    target = path.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    except OSError as error:
        raise _error(path, error) from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; a result is readable as any other new file.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
        _flush_folder(target.parent)
    except OSError as error:
        raise _error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make the new name last; not every system lets a folder be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)


def _error(path: Path, error: OSError) -> FileError:
    kept = f"; {path} as it was before is kept" if path.exists() else ""
    return FileError(f"cannot write {path}: {error.strerror or error}{kept}")
