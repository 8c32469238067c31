"""Logs what a model measures on held-out data, such as the accuracy of its classes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
from annotated_types import Gt
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from twoplayer import pictures, plots
from twoplayer.callbacks.samples import FOLDER
from twoplayer.data.base import Split, to_unit_range
from twoplayer.data.neighbors import nearest
from twoplayer.game.game import Game
from twoplayer.loggers.base import log_picture, log_scalars, summarize
from twoplayer.metrics.code_accuracy import matched_share

CHUNK = 500
PLANE = "codes_on_a_plane.png"


class Measures(Callback):
    """Logs `<name>_validation` every `every_images`, and `<name>_test` at the end.

    The names are those of `Model.measures`. If the model has an encoder and the data have classes,
    `code_neighbors_test` is the share of test images whose nearest training image, by the distance
    of codes, is of the same class, and `samples/codes_on_a_plane.png` shows test images by their
    codes. If it finds categories without labels, `cluster_accuracy_test` is the share of test
    images in the right one, after categories and classes have been matched one to one. summary.json
    holds the last values in `measures`.
    """

    def __init__(self, *, every_images: Annotated[int, Gt(0)]) -> None:
        self.every_images = every_images

    def on_train_batch_end(self, trainer: Trainer, game: Game, outputs: Any, batch: Any, batch_index: int) -> None:  # type: ignore[override]
        if game.clock.crossed(self.every_images) and not trainer.should_stop:
            self._measure(trainer, game, "validation")

    def on_train_end(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        found = {**self._measure(trainer, game, "validation"), **self._measure(trainer, game, "test")}
        found |= {**self._codes(trainer, game), **self._clusters(trainer, game)}
        if found:
            summarize(trainer, {"measures": found})

    def _measure(self, trainer: Trainer, game: Game, split: Literal["validation", "test"]) -> dict[str, float]:
        """The means over a split by name; they are the same on every rank."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        sums: dict[str, float] = {}
        num = 0
        for first in range(0, len(getattr(data.splits, split).images), CHUNK):
            batch = data.held_out(first, CHUNK, game.device, split)
            found = game.measures(batch)
            if not found:
                return {}
            num += len(batch[0])
            for name, values in found.items():
                sums[f"{name}_{split}"] = sums.get(f"{name}_{split}", 0.0) + float(values.double().sum())
        means = {name: total / num for name, total in sums.items()}
        log_scalars(trainer, means, game.clock.images_seen)
        return means

    def _codes(self, trainer: Trainer, game: Game) -> dict[str, float]:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if data.num_classes == 1 or game.encode(*data.held_out(0, 2, game.device)[:2]) is None:
            return {}
        train, test = (
            torch.cat(
                [cast(Tensor, game.encode(to_unit_range(images.to(game.device)), labels.to(game.device))) for images, labels in chunks]
            )
            for chunks in (_chunks(data.splits.train), _chunks(data.splits.test))
        )
        _, places = nearest(test, train)
        right = data.splits.train.labels.to(game.device)[places] == data.splits.test.labels.to(game.device)
        found = {"code_neighbors_test": float(right.double().mean())}
        log_scalars(trainer, found, game.clock.images_seen)
        if trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / FOLDER / PLANE
            pictures.write(plots.codes_on_a_plane(test, data.splits.test.labels), path)
            log_picture(trainer, path.stem, path, game.clock.images_seen)
        return found

    def _clusters(self, trainer: Trainer, game: Game) -> dict[str, float]:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        device, test = game.device, data.splits.test
        if data.num_classes == 1 or game.clusters(*data.held_out(0, 2, device)[:2]) is None:
            return {}
        found = [game.clusters(to_unit_range(images.to(device)), labels.to(device)) for images, labels in _chunks(test)]
        accuracy = {"cluster_accuracy_test": matched_share(torch.cat(cast(list[Tensor], found)).cpu(), test.labels)}
        log_scalars(trainer, accuracy, game.clock.images_seen)
        return accuracy


def _chunks(split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(split.images.split(CHUNK), split.labels.split(CHUNK), strict=True)
