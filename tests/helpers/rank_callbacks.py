"""Callbacks for tests of data parallel runs."""

import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback

from twoplayer.distributed import ranks
from twoplayer.tricks.base import Trick


class Dump(Callback):
    """Leaves what each rank has at the end, and what it drew, in the run folder."""

    def __init__(self) -> None:
        self.noise: list[torch.Tensor] = []
        self.images: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Any, game: Any, outputs: Any, batch: Any, batch_index: int) -> None:
        self.noise.append(torch.randn(4))
        self.images.append(batch[0])

    def on_train_end(self, trainer: Any, game: Any) -> None:
        shared = {name: tensor.detach().clone() for name, tensor in game.shared_state()}
        drawn = {"noise": torch.stack(self.noise), "images": torch.stack(self.images), "world_size": trainer.world_size}
        torch.save({"shared": shared, **drawn}, Path(trainer.default_root_dir) / f"rank{ranks.rank()}.pt")


class NoReduce(Callback):
    """Takes the all-reduce out."""

    def setup(self, trainer: Any, game: Any, stage: str) -> None:
        ranks.average_in_place = lambda tensors: None  # type: ignore[assignment]


class Fail(Callback):
    """Fails on one rank, or with one loss, as the environment says."""

    def on_train_batch_end(self, trainer: Any, game: Any, *others: Any) -> None:
        if os.environ.get("FAIL_ON_RANK") == str(ranks.rank()) or os.environ.get("FAIL_ON_LOSS") == type(game.loss).__name__:
            raise RuntimeError("this run fails on purpose")


class Memory(Trick):
    """Remembers something that each rank has of its own, and lets the game depend on it."""

    per_rank = frozenset({"store"})

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("store", torch.zeros(4))
        self.store: torch.Tensor

    def view(self, images: torch.Tensor) -> torch.Tensor:
        self.store.add_(torch.randn(4))
        return images + self.store.mean() * 0.01


class RankNoise(Callback):
    """Draws from the global stream outside the game, differently on each rank; changes nothing."""

    def on_train_batch_end(self, *arguments: Any) -> None:
        torch.randn(1 + ranks.rank())
