"""Where kernels keep what was made once for this machine."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["cache_directories"]


def cache_directories() -> Iterator[Path]:
    """Yield `$DRCONV_CACHE`, or ours in the user's cache, if it is or can be made private and writable."""
    given = os.environ.get("DRCONV_CACHE")
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        directory = Path(given) if given else home / "drconv"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except (OSError, RuntimeError):
        return
    # What lies there will be run: nobody else may have put it there.
    others_may_write = bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    if status.st_uid == os.geteuid() and not others_may_write:
        yield directory
