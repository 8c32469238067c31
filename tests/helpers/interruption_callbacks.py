"""Callbacks for tests of runs that are killed, signalled, or spoiled."""

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback


class Slow(Callback):
    """Takes its time, so that there is a middle in which a run can be killed."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_end(self, *arguments: Any) -> None:
        time.sleep(self.seconds)


class FullDisk(Callback):
    """From one iteration on, the disk has no room."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def on_train_batch_end(self, trainer: Any, game: Any, *others: Any) -> None:
        if game.clock.iteration == self.iteration:
            usage = shutil.disk_usage("/")
            shutil.disk_usage = lambda path: usage._replace(free=0)  # type: ignore[assignment]


class EndWandb(Callback):
    """Kills the process in which W&B works, after one iteration."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def on_train_batch_end(self, trainer: Any, game: Any, *others: Any) -> None:
        if game.clock.iteration == self.iteration:
            for path in Path("/proc").glob("[0-9]*/stat"):
                name, _, rest = path.read_text().partition("(")[2].rpartition(")")
                if name.startswith("wandb-core") and int(rest.split()[1]) == os.getpid():
                    os.kill(int(path.parent.name), signal.SIGKILL)
                    return
            raise AssertionError("there is no process of W&B's")


class Overflow(Callback):
    """Takes a weight out of what a float can hold, right after one iteration."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def on_train_batch_end(self, trainer: Any, game: Any, *others: Any) -> None:
        if game.clock.iteration == self.iteration:
            with torch.no_grad():
                next(game.model.generator.parameters()).view(-1)[0] = torch.inf


class Spoil(Callback):
    """Puts a NaN into one part of the game before one iteration."""

    def __init__(self, what: str, player: str, iteration: int) -> None:
        self.what, self.player, self.iteration = what, player, iteration

    def on_train_batch_start(self, trainer: Any, game: Any, *others: Any) -> None:
        if game.clock.iteration != self.iteration:
            return
        parameter = next(getattr(game.model, self.player).parameters())
        if self.what == "weight":
            with torch.no_grad():
                parameter.view(-1)[0] = torch.nan
        elif self.what == "gradient":
            parameter.register_hook(lambda gradient: gradient * torch.nan)
        else:
            cost = getattr(game.loss, self.player)
            object.__setattr__(game.loss, self.player, lambda *arguments: cost(*arguments) * torch.nan)
