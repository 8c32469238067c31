"""WGAN-div (Wu et al., 2018, arXiv:1712.01026): the Wasserstein divergence.

It needs no bound on the slope, but a power of the slope as a penalty.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from twoplayer.models.base import Judge, Side
from twoplayer.tricks.base import Trick
from twoplayer.tricks.slopes import squared_slope


class WGANDiv(Trick):
    """`weight` times the mean of slope^`power` over real images and fakes."""

    slopes = frozenset({"real", "fake"})
    bounds_slope = True

    def __init__(self, *, weight: Annotated[float, Gt(0)], power: Annotated[float, Ge(2)], every_updates: Annotated[int, Ge(1)]) -> None:
        super().__init__()
        self.power, self.every_updates = power, every_updates
        self.register_buffer("weight", torch.tensor(weight))
        self.weight: Tensor

    def penalty(self, real: Side, fake: Side, judge: Judge) -> Tensor:
        powers = [squared_slope(side.logits, side.images) ** (self.power / 2) for side in (real, fake)]
        return self.weight * (powers[0].mean() + powers[1].mean()) / 2
