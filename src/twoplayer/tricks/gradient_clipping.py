"""Gradient clipping by norm (Pascanu, Mikolov and Bengio, 2013, arXiv:1211.5063)."""

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Gt
from torch import nn
from torch.nn.utils import clip_grad_norm_

from twoplayer.tricks.base import Player, Trick

Norm = Annotated[float, Gt(0)] | None


class GradientClipping(Trick):
    """Limits the norm of each player's whole gradient; None means no limit."""

    def __init__(self, *, generator: Norm, discriminator: Norm) -> None:
        super().__init__()
        self.limits: dict[Player, float | None] = {"generator": generator, "discriminator": discriminator}

    def gradients(self, player: Player, parameters: Sequence[nn.Parameter]) -> None:
        limit = self.limits[player]
        if limit is not None:
            clip_grad_norm_(parameters, limit)
