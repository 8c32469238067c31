"""The progress of a long pass over files: a bar on a terminal, log lines elsewhere."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0

Item = TypeVar("Item")


def followed(items: Iterable[Item], total: int, title: str) -> Iterator[Item]:
    """The same items. Nothing is shown of a pass that ends soon."""
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(items, title, total=total, console=console, transient=True)
        return
    start = last = time.monotonic()
    for number, item in enumerate(items):
        now = time.monotonic()
        if number and now - last >= SECONDS_BETWEEN_LINES:
            last = now
            log.info("%s: %s of %s, %.0f s left", title, f"{number:,}", f"{total:,}", (now - start) / number * (total - number))
        yield item
