"""Batches of images that do not fit into memory: read from the disk ahead of their use."""

import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from twoplayer.data.base import Batches, to_unit_range

WORKERS = 2
AHEAD = 4
"""How many batches are read ahead."""


class Streamed(Batches):
    """The batches of `source`, which are on the host, moved to a device; equal bit for bit.

    Threads draw the next batches. Which images a batch holds depends on its iteration alone, so
    reading ahead changes nothing that a checkpoint would have to hold.
    """

    def __init__(self, source: Batches, device: torch.device) -> None:
        self.source, self.first, self.device = source, source.first, device

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        with ThreadPoolExecutor(WORKERS, "images") as pool:
            iterations = itertools.count(self.first)
            waiting = deque(pool.submit(self._read, next(iterations)) for _ in range(AHEAD))
            while True:
                ready = waiting.popleft().result()
                waiting.append(pool.submit(self._read, next(iterations)))
                yield self._moved(ready)

    def drawn(self, iteration: int) -> tuple[Tensor, ...]:
        return tuple(part.to(self.device) for part in self._read(iteration))

    def _read(self, iteration: int) -> tuple[Tensor, ...]:
        parts = self.source.drawn(iteration)
        return tuple(part.pin_memory() for part in parts) if self.device.type == "cuda" else parts

    def _moved(self, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """On the device, and converted there, since devices may round differently."""
        return tuple(to_unit_range(part.to(self.device, non_blocking=True)) for part in parts)
