"""Describes a run as a whole, in summary.json and in every logger."""

import platform
from importlib.metadata import version
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from twoplayer.callbacks.stopwatch import Stopwatch
from twoplayer.game.game import Game
from twoplayer.loggers.base import summarize
from twoplayer.signals import Interruption

PACKAGES = ("twoplayer", "torch", "pytorch-lightning", "torchmetrics", "hydra-core", "wandb")


class Summary(Callback):
    """Records what is running at the start of a run, and how it ended.

    `segments` has one entry per process that worked on the run.
    """

    def __init__(self, stopwatch: Stopwatch, settings: dict[str, Any]) -> None:
        self.stopwatch, self.settings = stopwatch, settings
        self.segments: list[dict[str, int]] = []
        self._game: Game

    def on_fit_start(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        self._game = game
        self.segments = [*self.segments, {"resumed_from": game.clock.images_seen, "trained": 0}]
        facts = {
            "num_parameters": {
                player: sum(parameter.numel() for parameter in parameters) for player, parameters in game.player_parameters.items()
            },
            "device": device_name(game.device),
            "precision": game.precision,
            "threads": torch.get_num_threads(),
            "world_size": trainer.world_size,
            "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        }
        resumed = {"resumed_from": game.clock.images_seen, "error": None}
        summarize(trainer, {"status": "running", **resumed, **self.settings, **facts, **self._progress(game)})

    def on_train_end(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        summarize(trainer, {"status": "finished", **self._progress(game)})

    def on_exception(self, trainer: Trainer, game: Game, exception: BaseException) -> None:  # type: ignore[override]
        summarize(trainer, {**ending(exception), **self._progress(game)})

    def state_dict(self) -> dict[str, Any]:
        """All segments, the present one up to now."""
        self._progress(self._game)
        return {"segments": [dict(segment) for segment in self.segments]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.segments = state_dict["segments"]

    def _progress(self, game: Game) -> dict[str, Any]:
        clock, seconds = game.clock, self.stopwatch.seconds
        if self.segments:
            self.segments[-1]["trained"] = clock.images_seen - self.segments[-1]["resumed_from"]
        return {
            "images_seen": clock.images_seen,
            "iterations": clock.iteration,
            "seconds": seconds,
            "images_per_second": clock.images_seen / seconds if seconds else None,
            "segments": self.segments,
        }


def ending(error: BaseException) -> dict[str, str]:
    """The `status` and `error` of a run that stopped early."""
    return {"status": "interrupted" if isinstance(error, Interruption) else "failed", "error": str(error) or type(error).__name__}


def device_name(device: torch.device) -> str:
    """The name of the GPU, or the device type and the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
