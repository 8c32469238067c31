"""A callback that alternates the game with a bare PyTorch loop, and times both."""

import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning import Callback

from bare import BareLoop

STRETCH, WARM_UP = 8, 24  # R1 is due in every eighth update


class Alternate(Callback):
    """Alternates stretches of both loops; writes seconds per iteration to `file`."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self.seconds: dict[str, list[float]] = {"ours": [], "bare": []}
        self._bare: BareLoop
        self._since = 0.0

    def on_train_start(self, trainer: Any, game: Any) -> None:
        """Give the bare loop a copy of the untrained networks."""
        players = copy.deepcopy((game.model.generator, game.model.discriminator))
        self._bare = BareLoop(*players, trainer.datamodule.splits.train.images, game.clock.batch_size)

    def on_train_batch_end(self, trainer: Any, game: Any, *others: Any) -> None:
        """After a stretch of ours, time one of the bare loop; the first ones warm up."""
        if game.clock.iteration % STRETCH:
            return
        now = time.perf_counter()
        for _ in range(STRETCH):
            self._bare.iteration()
        end = time.perf_counter()
        if game.clock.iteration > WARM_UP:
            self.seconds["ours"].append((now - self._since) / STRETCH)
            self.seconds["bare"].append((end - now) / STRETCH)
        self._since = time.perf_counter()

    def on_train_end(self, trainer: Any, game: Any) -> None:
        np.savez(self.file, ours=self.seconds["ours"], bare=self.seconds["bare"])
