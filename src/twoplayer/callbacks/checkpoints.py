"""Saves the whole game, every so many images or seconds and at the end."""

import time
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer

from twoplayer.callbacks.scalars import check_finite
from twoplayer.configuration import Checkpoint
from twoplayer.game import Game

FOLDER = "checkpoints"


class Checkpoints(Callback):
    """Keeps `checkpoints/last.ckpt`."""

    def __init__(self, schedule: Checkpoint) -> None:
        self.schedule = schedule
        self._saved_at = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, game: Game, outputs: Any, batch: Any, batch_index: int) -> None:  # type: ignore[override]
        """At whichever comes first; the last is left to the end."""
        if trainer.should_stop:
            return
        due = self.schedule.images is not None and game.clock.crossed(self.schedule.images)
        if self.schedule.seconds is not None:
            due = trainer.strategy.reduce_boolean_decision(due or time.perf_counter() - self._saved_at >= self.schedule.seconds, all=False)
        if due:
            self._save(trainer, game)

    def on_train_end(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        """The trained game."""
        self._save(trainer, game)

    def _save(self, trainer: Trainer, game: Game) -> None:
        check_finite(game)
        trainer.save_checkpoint(Path(trainer.default_root_dir) / FOLDER / "last.ckpt")
        self._saved_at = time.perf_counter()
