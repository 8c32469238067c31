"""Signals that ask a run to end: it is saved when its present iteration is over, and can be continued."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType

from twoplayer.errors import TwoplayerError

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))
_received: list[tuple[int, float]] = []

ONE_REQUEST = 1.0
"""Seconds within which signals are one request: a launcher and the terminal often send the same twice."""


class Interruption(TwoplayerError):  # noqa: N818 (it is none)
    """The run was asked to end by a signal. It has been saved."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


def received() -> int:
    """The number of the signal that has asked this process to end, or 0."""
    return _received[0][0] if _received else 0


@contextlib.contextmanager
def listening(at_once: Callable[[], None]) -> Iterator[None]:
    """While this is held, a first signal is only noted; one that follows later ends the process there and then, after `at_once`.

    What this process was started to ignore (`nohup`) it goes on ignoring.
    """

    def note(number: int, frame: FrameType | None) -> None:
        _received.append((number, time.monotonic()))
        if time.monotonic() - _received[0][1] > ONE_REQUEST:
            at_once()
            os._exit(128 + number)
        if len(_received) == 1 and sys.stderr.isatty():
            with contextlib.suppress(OSError):  # a terminal that is gone
                os.write(2, b"\nending: the run is saved when this iteration is over; once more ends it at once\n")

    _received.clear()
    before = {number: signal.signal(number, note) for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
