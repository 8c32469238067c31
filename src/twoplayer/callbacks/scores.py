"""Scores the generator before training, every so many images, and at the end."""

import logging
import math
from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import Gt
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from twoplayer.game.game import Game
from twoplayer.loggers.base import log_scalars, summarize
from twoplayer.metrics import recorded
from twoplayer.metrics.base import CHUNK, Better, Metric, Reference
from twoplayer.metrics.scoring import Scoring

log = logging.getLogger(__name__)


class Scores(Callback):
    """Logs `<number>_validation` during training, and `test/<number>` once, at the end.

    `recorded` is the entry `scores` of summary.json; see `twoplayer.metrics.recorded`. `best_at` is
    the number of images seen at the best validation score of the leading number, and `latest` that
    at the newest scores, with these by name.
    """

    def __init__(self, *, every_images: Annotated[int, Gt(0)]) -> None:
        self.every_images = every_images
        self.recorded: dict[str, dict[str, Any]] = {}
        self.best_at: int | None = None
        self.latest: tuple[int, dict[str, float]] | None = None
        self._metrics: dict[str, Metric] = {}
        self._better: dict[str, Better] = {}
        self._scoring: Scoring | None = None
        self._best: dict[str, float] = {}
        self._untrained: dict[str, float] = {}

    def choose(self, metrics: dict[str, Metric], last: Mapping[str, dict[str, Any]]) -> None:
        """Set the metrics. `last` holds scores from before a resume, kept until new ones."""
        self._metrics, self.recorded = metrics, {name: dict(entry) for name, entry in last.items()}
        self._better = {name: better for metric in metrics.values() for name, better in metric.numbers.items()}

    def on_train_start(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        """Compute the floors and the scores of the untrained generator."""
        if self._metrics:
            self._prepare(trainer, game)
        summarize(trainer, {"scores": self.recorded})

    def on_train_batch_end(self, trainer: Trainer, game: Game, outputs: Any, batch: Any, batch_index: int) -> None:  # type: ignore[override]
        """Add a point to the curve; on_train_end adds the last one."""
        if self._scoring is not None and game.clock.crossed(self.every_images) and not trainer.should_stop:
            self._log(trainer, game, self._score(game, "validation")["validation"])

    def on_train_end(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        """Add the last point of the curve, and compute the test scores."""
        if self._scoring is None:
            return
        if trainer.is_global_zero:
            log.info("scoring ...")
        scores = self._score(game, "validation", "test")
        self._log(trainer, game, scores["validation"])
        log_scalars(trainer, {f"test/{name}": value for name, value in scores["test"].items()}, game.clock.images_seen)
        for name, value in scores["test"].items():
            self.recorded[name] |= {"value": value, "validation": scores["validation"][name], "best_validation": self._best[name]}
            interval = next(metric for metric in self._metrics.values() if name in metric.numbers).interval(value)
            if interval is not None:
                self.recorded[name]["interval"] = list(interval)
        summarize(trainer, {"scores": self.recorded})

    def state_dict(self) -> dict[str, Any]:
        """The best validation scores, where the leading one was, the newest and the untrained."""
        return {"best": dict(self._best), "best_at": self.best_at, "latest": self.latest, "untrained": dict(self._untrained)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best, self.best_at, self._untrained = state_dict["best"], state_dict["best_at"], state_dict["untrained"]
        self.latest = state_dict["latest"]

    def _prepare(self, trainer: Trainer, game: Game) -> None:
        if trainer.is_global_zero:
            log.info("scoring the untrained generator ..." if game.clock.iteration == 0 else "preparing the scores ...")
        scoring = Scoring(self._metrics, trainer.datamodule, game.device, game.meaning)  # type: ignore[attr-defined]
        for name, reason in scoring.reasons.items():
            log.info("%s is not computed: %s", name, reason)
        if scoring.metrics:
            self._scoring = scoring
            if game.clock.iteration == 0:
                scores = self._score(game, "validation", "test")
                self._untrained = scores["test"]
                self._log(trainer, game, scores["validation"])
        weights = "raw" if game.tricks.sampler(game.model.generator) is game.model.generator else "averaged"
        last, self.recorded = self.recorded, {}
        for metric_name, metric in self._metrics.items():
            for name, better in metric.numbers.items():
                facts = (
                    {"reason": scoring.reasons[metric_name]}
                    if metric_name in scoring.reasons
                    else {
                        "floor": scoring.floors.get(name),
                        "untrained": self._untrained.get(name),
                        "protocol": {**metric.protocol(), "weights": weights},
                    }
                )
                self.recorded[name] = {"value": None, "validation": None, **last.get(name, {}), "better": better, **facts}

    def _score(self, game: Game, *references: Reference) -> dict[Reference, dict[str, float]]:
        def sample(num: int, chunk: int) -> Tensor:
            return game.sample(game.latents(num, "metric", chunk), game.told(num, chunk * CHUNK, scored=True))

        def classes(num: int, chunk: int) -> Tensor:
            return game.classes_of(game.latents(num, "metric", chunk), chunk * CHUNK)

        assert self._scoring is not None
        return self._scoring.score(sample, references, classes if game.meaning else None)

    def _log(self, trainer: Trainer, game: Game, scores: Mapping[str, float]) -> None:
        for name, value in scores.items():
            better = self._better[name]
            best = self._best.get(name, math.nan)
            if math.isnan(best) or recorded.cost(value, better) < recorded.cost(best, better):
                self._best[name] = value
                if name == next(iter(self._better)):  # the leading number
                    self.best_at = game.clock.images_seen
        self.latest = (game.clock.images_seen, dict(scores))
        log_scalars(trainer, {f"{name}_validation": value for name, value in scores.items()}, game.clock.images_seen)
