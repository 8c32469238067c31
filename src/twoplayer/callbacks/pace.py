"""Notices when a run becomes much slower than it was."""

import logging
import time
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from twoplayer.game.game import Game

log = logging.getLogger(__name__)

SLOW = 0.5
SECONDS = 2.0
"""The least time over which a rate is taken."""
PATIENCE = 5
"""So many rates in a row have to be slow: one of them may contain a score or a save."""


class Pace(Callback):
    """Says once, and with the remedy, that updates per second have fallen below half of the highest rate so far, that of the trial at the
    start and of earlier processes included. Updates, not images: how many there are for an image may change with the turns.
    """

    def __init__(self, highest: float) -> None:
        self._highest = highest
        self._since: tuple[float, int] | None = None
        self._slow = 0

    def on_train_batch_end(self, trainer: Trainer, game: Game, outputs: Any, batch: Any, batch_index: int) -> None:  # type: ignore[override]
        """Take the next rate when it is time."""
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
                "slow: %.1f updates a second, down from %.1f. Another program may be using this machine: end it%s",
                rate,
                self._highest,
                ", or interrupt this run and resume it with threads=1" if fewer else "",
            )

    def state_dict(self) -> dict[str, Any]:
        """The highest rate so far."""
        return {"highest": self._highest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self._highest = max(self._highest, state_dict["highest"])
