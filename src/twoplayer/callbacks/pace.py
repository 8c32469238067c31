"""Notices when a run becomes much slower than it was."""

import logging
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from twoplayer.game import Game

log = logging.getLogger(__name__)

SLOW = 0.5
PATIENCE = 3
"""So many rows of scalars in a row have to be slow: one of them may contain a score or a save."""


class Pace(Callback):
    """Says once, and with the remedy, that images per second have fallen below half of the highest so far, or of the trial at the start."""

    def __init__(self, images_per_second: float | None) -> None:
        self._highest = images_per_second or 0.0
        self._last: torch.Tensor | None = None
        self._slow = 0

    def on_train_batch_end(self, trainer: Trainer, game: Game, outputs: Any, batch: Any, batch_index: int) -> None:  # type: ignore[override]
        """Look at each new measurement."""
        newest = trainer.callback_metrics.get("images_per_second")
        if newest is None or newest is self._last or not trainer.is_global_zero or self._slow >= PATIENCE:
            return
        self._last = newest
        self._highest = max(self._highest, float(newest))
        self._slow = self._slow + 1 if float(newest) < SLOW * self._highest else 0
        if self._slow == PATIENCE:
            log.warning(
                "slow: %s images/s, down from %s. Another program may be using the processor: end it%s",
                f"{float(newest):,.0f}",
                f"{self._highest:,.0f}",
                ", or interrupt this run and go on with resume=auto threads=1" if torch.get_num_threads() > 1 else "",
            )
