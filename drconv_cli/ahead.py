"""Files that are read in another thread before it is their turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from itertools import islice
from typing import TypeVar

__all__ = ["AHEAD", "loaded_ahead"]

AHEAD = 2
"""So many items at most are loaded, or being loaded, and not yet taken."""

_Item = TypeVar("_Item")
_Loaded = TypeVar("_Loaded")


@contextmanager
def loaded_ahead(items: Iterable[_Item], load: Callable[[_Item], _Loaded]) -> Iterator[Callable[[], _Loaded]]:
    """Load items one after the other in one thread beside this one.

    Args:
        items: in the order in which they are taken.
        load: runs in the other thread, with the context variables of this one.

    Yields:
        A function that returns what the next item gave, or raises what it raised.
    """
    coming = iter(items)
    pending: deque[Future[_Loaded]] = deque()
    context = copy_context()
    pool = ThreadPoolExecutor(1, "drconv-ahead")

    def submit(count: int) -> None:
        pending.extend(pool.submit(context.run, load, item) for item in islice(coming, count))

    def take() -> _Loaded:
        loaded = pending.popleft()
        try:
            return loaded.result()
        finally:
            # Only now, when one is taken: no more than AHEAD are ever held.
            submit(1)

    submit(AHEAD)
    try:
        yield take
    finally:
        pool.shutdown(cancel_futures=True)
