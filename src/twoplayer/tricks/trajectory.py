"""Draws the way of both players around their equilibrium (Mescheder et al., 2018)."""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor, nn

from twoplayer import plots
from twoplayer.models.base import Picture
from twoplayer.tricks.base import Draw, Trick


class Trajectory(Trick):
    """Records one number of each player after each of G's updates, the last `updates` of them.

    G's number is the last one of its output layer, a bias where it has one; D's is the first weight
    of its own. With linear players on one point these are the whole game. It changes nothing in
    training; the picture is `samples/trajectory.png`.
    """

    needs = frozenset({"a discriminator"})

    def __init__(self, *, updates: Annotated[int, Ge(2)]) -> None:
        super().__init__()
        self.register_buffer("way", torch.zeros(updates, 2))
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))
        self.way: Tensor
        self.count: Tensor
        self._watched: list[nn.Parameter] = []

    def ready(self, generator: nn.Module, discriminator: nn.Module) -> None:
        outputs = generator.output, discriminator.output
        assert isinstance(outputs[0], nn.Module)
        assert isinstance(outputs[1], nn.Module)
        self._watched = [[*outputs[0].parameters()][-1], next(weight for weight in outputs[1].parameters() if weight.ndim > 1)]

    @torch.no_grad()
    def after_generator(self, generator: nn.Module) -> None:
        one, other = self._watched
        place = torch.stack([one.flatten()[-1], other.flatten()[0]])[None]
        self.way.index_copy_(0, self.count % len(self.way), place.to(self.way))
        self.count += 1

    def pictures(self, draw: Draw) -> dict[str, Picture]:
        """The way, the oldest place first."""
        num, start = min(int(self.count), len(self.way)), int(self.count) % len(self.way)
        if not num:
            return {}
        way = self.way[:num] if int(self.count) <= len(self.way) else self.way.roll(-start, 0)
        pixels = torch.from_numpy(np.asarray(plots.way(way.cpu())).copy()).permute(2, 0, 1)[None]
        return {"trajectory": Picture(pixels.float() / 127.5 - 1, 1)}
