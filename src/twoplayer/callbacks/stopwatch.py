"""Ends a run at the first iteration that reaches the budget of images or of seconds."""

import time
from typing import Any

from pytorch_lightning import Callback, Trainer

from twoplayer.config.schema import Budget
from twoplayer.distributed import ranks
from twoplayer.game.game import Game


class Stopwatch(Callback):
    """Stops the run at its budget, and measures how long it trained.

    The time is from the first iteration to the last, callbacks included, over all processes that
    worked on the run.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._before = 0.0
        self._started: float | None = None
        self._vote = ranks.Vote()

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return self._before + (0.0 if self._started is None else time.perf_counter() - self._started)

    def on_train_start(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        """Skip training if the budget is spent and only the final scores are missing."""
        spent = self.budget.seconds is not None and self.seconds >= self.budget.seconds
        trainer.should_stop |= game.clock.images_seen >= self.budget.images or spent

    def on_train_batch_start(self, trainer: Trainer, game: Game, batch: Any, batch_index: int) -> None:  # type: ignore[override]
        if self._started is None:
            self._started = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, game: Game, outputs: Any, batch: Any, batch_index: int) -> None:  # type: ignore[override]
        """Stop all ranks at the same iteration."""
        if self.budget.seconds is not None:
            (late,) = self._vote.cast(self.seconds >= self.budget.seconds)
            trainer.should_stop |= bool(late)
        trainer.should_stop |= game.clock.images_seen >= self.budget.images

    def on_train_end(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        """Stop the clock: the final scores do not count."""
        self._before, self._started = self.seconds, None

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._before = state_dict["seconds"]
