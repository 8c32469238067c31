"""Scores the generator: before training, every so many images, and at the end, each beside its floor."""

import logging
from typing import Annotated, Any

import torch
from annotated_types import Gt
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from twoplayer.game.game import Game
from twoplayer.loggers.base import log_scalars, summarize
from twoplayer.metrics.base import Metric, Reference

log = logging.getLogger(__name__)


class Scores(Callback):
    """`<metric>_validation` is for curves and choices; `<metric>`, against the test split, is computed once, at the end."""

    def __init__(self, *, every: Annotated[int, Gt(0)]) -> None:
        self.every = every
        self.metric: Metric | None = None
        self._untrained: float | None = None
        self._best: float | None = None
        self.best_at: int | None = None

    def on_train_start(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        """The floor, and the score of the untrained generator."""
        if self.metric is None:
            summarize(trainer, {"fd_reason": "metric=none"})
            return
        name = self.metric.name
        if trainer.is_global_zero:
            log.info("scoring the untrained generator ..." if game.clock.iteration == 0 else "preparing the score ...")
        reason = self.metric.prepare(trainer.datamodule, game.device)  # type: ignore[attr-defined]
        if reason is not None:
            log.info("%s is not computed: %s", name, reason)
            summarize(trainer, {f"{name}_reason": reason})
            self.metric = None
            return
        weights = "raw" if game.tricks.sampler(game.model.generator) is game.model.generator else "averaged"
        summarize(trainer, {f"{name}_floor": self.metric.floor(), f"{name}_protocol": {**self.metric.protocol(), "weights": weights}})
        if game.clock.iteration == 0:
            scores = self._score(game, "validation", "test")
            self._untrained = scores["test"]
            self._log(trainer, game, scores["validation"])
        summarize(trainer, {f"{name}_untrained": self._untrained})

    def on_train_batch_end(self, trainer: Trainer, game: Game, outputs: Any, batch: Any, batch_index: int) -> None:  # type: ignore[override]
        """The curve; the last point is left to the end."""
        if self.metric is not None and game.clock.crossed(self.every) and not trainer.should_stop:
            self._log(trainer, game, self._score(game, "validation")["validation"])

    def on_train_end(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        """The last point of the curve, and the score."""
        if self.metric is not None:
            if trainer.is_global_zero:
                log.info("scoring ...")
            scores = self._score(game, "validation", "test")
            self._log(trainer, game, scores["validation"])
            summarize(
                trainer,
                {
                    self.metric.name: scores["test"],
                    f"{self.metric.name}_validation": scores["validation"],
                    f"{self.metric.name}_validation_best": self._best,
                },
            )

    def state_dict(self) -> dict[str, Any]:
        """The best validation score so far, and when it was."""
        return {"best": self._best, "best_at": self.best_at, "untrained": self._untrained}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self._best, self.best_at, self._untrained = state_dict["best"], state_dict["best_at"], state_dict["untrained"]

    def _score(self, game: Game, *references: Reference) -> dict[Reference, float]:
        def sample(num: int, chunk: int) -> Tensor:
            labels = torch.arange(num, device=game.device) % game.num_classes
            return game.sample(game.latents(num, "metric", chunk), labels)

        assert self.metric is not None
        return self.metric.score(sample, references)

    def _log(self, trainer: Trainer, game: Game, score: float) -> None:
        assert self.metric is not None
        if self._best is None or score < self._best:
            self._best, self.best_at = score, game.clock.images_seen
        log_scalars(trainer, {f"{self.metric.name}_validation": score}, game.clock.images_seen)
