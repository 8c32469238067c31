"""Signals that stop a run: it is saved after the current iteration and can be resumed."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType

from twoplayer.distributed import environment
from twoplayer.errors import TwoplayerError

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))
_received: list[tuple[int, float]] = []

ONE_REQUEST = 1.0
"""Seconds within which repeated signals count as one request.

A launcher and the terminal often send the same signal twice.
"""


class Interruption(TwoplayerError):  # noqa: N818 (not an error)
    """A signal stopped the run, which is saved."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


def received() -> int:
    """The number of the first signal that asked this process to stop, or 0."""
    return _received[0][0] if _received else 0


@contextlib.contextmanager
def listening(at_once: Callable[[], None]) -> Iterator[None]:
    """Record the first signal inside the context; a later one ends the process after `at_once()`.

    Signals that the process was started to ignore (`nohup`) stay ignored. torchrun and srun send
    SIGTERM to all ranks when the first one has ended. A rank that is already stopping ignores it,
    so that it can save, and each rank returns the code of the first signal.
    """

    def note(number: int, frame: FrameType | None) -> None:
        if _received and _ends_with_others(number):
            return
        _received.append((number, time.monotonic()))
        if time.monotonic() - _received[0][1] > ONE_REQUEST:
            at_once()
            os._exit(128 + number)
        if len(_received) == 1 and sys.stderr.isatty():
            with contextlib.suppress(OSError):  # the terminal is gone
                os.write(2, b"\nstopping: the run is saved after this iteration; press Ctrl+C again to stop at once without saving\n")

    _received.clear()
    before = {number: signal.signal(number, note) for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if _received and _ends_with_others(number) else handler)


def _ends_with_others(number: int) -> bool:
    return number == signal.SIGTERM and environment.by_others()
