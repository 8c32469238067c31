"""Logs what a model measures on held-out data, such as the accuracy of its classes."""

from typing import Annotated, Any, Literal

from annotated_types import Gt
from pytorch_lightning import Callback, Trainer

from twoplayer.game.game import Game
from twoplayer.loggers.base import log_scalars, summarize

CHUNK = 500


class Measures(Callback):
    """Logs `<name>_validation` every `every_images`, and `<name>_test` at the end.

    The names are those of `Model.measures`. summary.json holds the last values in `measures`.
    """

    def __init__(self, *, every_images: Annotated[int, Gt(0)]) -> None:
        self.every_images = every_images

    def on_train_batch_end(self, trainer: Trainer, game: Game, outputs: Any, batch: Any, batch_index: int) -> None:  # type: ignore[override]
        if game.clock.crossed(self.every_images) and not trainer.should_stop:
            self._measure(trainer, game, "validation")

    def on_train_end(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        found = {**self._measure(trainer, game, "validation"), **self._measure(trainer, game, "test")}
        if found:
            summarize(trainer, {"measures": found})

    def _measure(self, trainer: Trainer, game: Game, split: Literal["validation", "test"]) -> dict[str, float]:
        """The means over a split by name; they are the same on every rank."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        sums: dict[str, float] = {}
        num = 0
        for first in range(0, len(getattr(data.splits, split).images), CHUNK):
            images, labels = data.held_out(first, CHUNK, game.device, split)
            found = game.measures(images, labels)
            if not found:
                return {}
            num += len(images)
            for name, values in found.items():
                sums[f"{name}_{split}"] = sums.get(f"{name}_{split}", 0.0) + float(values.double().sum())
        means = {name: total / num for name, total in sums.items()}
        log_scalars(trainer, means, game.clock.images_seen)
        return means
