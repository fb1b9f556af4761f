"""Run PyTorch's profiler so that what runs under it is what runs without it, and nothing is written to the terminal."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from torch.profiler import profile

from drconv.ops import watched

__all__ = ["quiet_profiler"]


@contextmanager
def quiet_profiler(watch: profile, *, throughout: bool = False) -> Iterator[profile]:
    """Start a profiler, and stop it at the end.

    The process's error stream is closed while it starts and stops, as some versions write to it, and `throughout` where
    memory is watched, whose watcher writes of what was there before. Layers do not see this
    profiler: they would run stage by stage for it, which is not what is timed.
    """
    with _without_stderr():
        watch.start()
    try:
        with _unseen(), _without_stderr() if throughout else nullcontext():
            yield watch
    finally:
        with _without_stderr():
            watch.stop()


@contextmanager
def _unseen() -> Iterator[None]:
    kept = watched._profiling
    watched._profiling = lambda: False
    try:
        yield
    finally:
        watched._profiling = kept


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
