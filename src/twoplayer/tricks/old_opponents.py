"""Some updates against an old copy of the opponent (tip 8 of "How to train a GAN").

The idea follows fictitious play.
"""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from twoplayer.tricks.base import Player, Trick


class OldOpponents(Trick):
    """In every `every_iterations`-th iteration each player trains against an old copy of the other.

    The copies are renewed every `age` iterations. What an update changes in an old copy, such as
    running statistics, is discarded.
    """

    def __init__(self, *, every_iterations: Annotated[int, Ge(2)], age: Annotated[int, Ge(2)]) -> None:
        super().__init__()
        self.interval, self.age = every_iterations, age
        self.generator: nn.Module
        self.discriminator: nn.Module
        self._present: dict[Player, nn.Module] = {}

    def ready(self, generator: nn.Module, discriminator: nn.Module) -> None:
        self._present = {"generator": generator, "discriminator": discriminator}
        self.generator = copy.deepcopy(generator).requires_grad_(False)
        self.discriminator = copy.deepcopy(discriminator).requires_grad_(False)

    def opponent(self, player: Player, iteration: int) -> AbstractContextManager[None]:
        old, present = _tensors(self.get_submodule(player)), _tensors(self._present[player])
        if iteration % self.age == 0:
            _copy(present, old)
        return _exchanged(present, old) if iteration % self.interval == self.interval - 1 else nullcontext()


@contextmanager
def _exchanged(present: list[Tensor], old: list[Tensor]) -> Iterator[None]:
    kept = [tensor.detach().clone() for tensor in present]
    _copy(old, present)
    try:
        yield
    finally:
        _copy(kept, present)


@torch.no_grad()
def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    for one, other in zip(source, target, strict=True):
        other.copy_(one)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
