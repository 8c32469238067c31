"""Base class of loggers: Lightning's, plus pictures and a summary. All steps are images seen."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger


class History(NamedTuple):
    """What a resumed run has logged so far, up to `images_seen`.

    `rows` are the rows of metrics.csv, `pictures` the sample grids with their images seen, and
    `memories` the `memory` of each logger by its class name.
    """

    images_seen: int
    rows: list[dict[str, Any]]
    pictures: list[tuple[int, Path]]
    memories: dict[str, dict[str, Any]]


class RunLogger(Logger):
    """A logger of one run folder."""

    def start(self, folder: Path, name: str, group: str, tags: list[str], config: dict[str, Any], history: History | None) -> None:
        """Start logging into `folder`. A resumed run has a `history` and continues it.

        `group` is what runs that differ by their seeds alone have in common. `config` is the whole
        configuration as plain values.
        """

    @property
    def memory(self) -> dict[str, Any]:
        """Plain values that this logger needs on resume; they are saved in the checkpoint."""
        return {}

    def log_picture(self, name: str, path: Path, images_seen: int) -> None:
        """Log a PNG file."""

    def alert(self, title: str, text: str) -> None:
        """Tell the user of something that needs attention."""

    def summarize(self, values: dict[str, Any]) -> None:
        """Add to the description of the whole run."""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: `start` receives the configuration."""


def log_scalars(trainer: Trainer, values: dict[str, float], images_seen: int) -> None:
    """Log scalars with all loggers, and add them to `trainer.callback_metrics`."""
    trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})
    for logger in trainer.loggers:
        logger.log_metrics(values, step=images_seen)


def log_picture(trainer: Trainer, name: str, path: Path, images_seen: int) -> None:
    """Log a PNG file with every RunLogger."""
    for logger in trainer.loggers:
        if isinstance(logger, RunLogger):
            logger.log_picture(name, path, images_seen)


def summarize(trainer: Trainer, values: dict[str, Any]) -> None:
    """Add to the description of the whole run in every RunLogger."""
    for logger in trainer.loggers:
        if isinstance(logger, RunLogger):
            logger.summarize(values)
