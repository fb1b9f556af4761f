"""Run PyTorch's profiler without the lines that some versions of it write to the terminal."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from torch.profiler import profile

__all__ = ["quiet_profiler"]


@contextmanager
def quiet_profiler(watch: profile) -> Iterator[profile]:
    """Start and stop a profiler with the process's error stream closed; what runs in between can write to it."""
    with _without_stderr():
        watch.start()
    try:
        yield watch
    finally:
        with _without_stderr():
            watch.stop()


@contextmanager
def _without_stderr() -> Iterator[None]:
    # The lines come from compiled code, which only the file descriptor stops.
    kept = None
    with suppress(OSError):
        kept = os.dup(2)
    if kept is None:
        yield
        return
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2)
        os.close(nothing)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
