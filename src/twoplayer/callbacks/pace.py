"""Warns when a run becomes much slower than it was."""

import logging
import time
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from twoplayer.game.game import Game

log = logging.getLogger(__name__)

SLOW = 0.5
"""Share of the highest rate below which a rate counts as slow."""
SECONDS = 2.0
"""The shortest time over which a rate is measured."""
PATIENCE = 5
"""Consecutive slow rates before the warning: a single one may include a score or a save."""


class Pace(Callback):
    """Warns once when updates per second stay below half of the highest rate so far.

    The highest rate includes the trial iterations at the start and earlier processes of the run.
    Updates are counted, not images: the number of updates per image may change during a run.
    """

    def __init__(self, highest: float) -> None:
        self._highest = highest
        self._since: tuple[float, int] | None = None
        self._slow = 0

    def on_train_batch_end(self, trainer: Trainer, game: Game, outputs: Any, batch: Any, batch_index: int) -> None:  # type: ignore[override]
        now, updates = time.perf_counter(), sum(game.clock.updates.values())
        self._since = self._since or (now, updates)
        if now - self._since[0] < SECONDS or self._slow >= PATIENCE:
            return
        rate = (updates - self._since[1]) / (now - self._since[0])
        self._since = now, updates
        self._highest = max(self._highest, rate)
        self._slow = self._slow + 1 if rate < SLOW * self._highest else 0
        if self._slow == PATIENCE and trainer.is_global_zero:
            fewer = game.device.type == "cpu" and torch.get_num_threads() > 1
            log.warning(
                "slow: %.1f updates/s, down from %.1f; another program may be using this machine: end it%s",
                rate,
                self._highest,
                ", or interrupt this run and resume it with threads=1" if fewer else "",
            )

    def state_dict(self) -> dict[str, Any]:
        return {"highest": self._highest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._highest = max(self._highest, state_dict["highest"])
