"""What a signal means to a long run: finish the step, keep everything, end."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from drconv_cli.output import notice

__all__ = ["stop_on_signals"]


@contextmanager
def stop_on_signals(speaks: bool) -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether SIGTERM or SIGINT has come; a second one ends the process at once.

    Args:
        speaks: whether this process says so on stderr.
    """
    came: list[int] = []

    def keep(number: int, frame: FrameType | None) -> None:
        if came:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        came.append(number)
        if speaks:
            notice(f"{signal.Signals(number).name}: finishing the step; once more ends at once")

    before = {number: signal.signal(number, keep) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
