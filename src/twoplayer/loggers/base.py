"""What a logger of ours can do besides Lightning's: keep pictures and a summary. The step of everything is images seen."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger


class History(NamedTuple):
    """What has been logged of a run that goes on: up to `images_seen`, the rows of metrics.csv, the grids of samples, and what each logger
    has asked to remember.
    """

    images_seen: int
    rows: list[dict[str, Any]]
    pictures: list[tuple[int, Path]]
    memories: dict[str, dict[str, Any]]


class RunLogger(Logger):
    """A logger of one run."""

    def start(self, folder: Path, name: str, group: str, tags: list[str], config: dict[str, Any], history: History | None) -> None:
        """Start, once the run has a folder; go on where there is a history."""

    @property
    def memory(self) -> dict[str, Any]:
        """What this logger has to know when the run goes on, as plain values."""
        return {}

    def log_picture(self, name: str, path: Path, images_seen: int) -> None:
        """Show a PNG file."""

    def summarize(self, values: dict[str, Any]) -> None:
        """Add to what the run as a whole is described by."""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The configuration is given to `start`."""


def log_scalars(trainer: Trainer, values: dict[str, float], images_seen: int) -> None:
    """Give scalars to all loggers, and to callbacks that monitor `trainer.callback_metrics`."""
    trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})
    for logger in trainer.loggers:
        logger.log_metrics(values, step=images_seen)


def log_picture(trainer: Trainer, name: str, path: Path, images_seen: int) -> None:
    """Give a PNG file to all loggers of ours."""
    for logger in trainer.loggers:
        if isinstance(logger, RunLogger):
            logger.log_picture(name, path, images_seen)


def summarize(trainer: Trainer, values: dict[str, Any]) -> None:
    """Add to every logger's description of the whole run."""
    for logger in trainer.loggers:
        if isinstance(logger, RunLogger):
            logger.summarize(values)
