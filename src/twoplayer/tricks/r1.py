"""R1 (Mescheder, Geiger and Nowozin, 2018, arXiv:1801.04406).

A penalty on D's slope at real images, which makes the game converge.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from twoplayer.models.base import Judge, Side
from twoplayer.tricks.base import Trick
from twoplayer.tricks.slopes import squared_slope


class R1(Trick):
    """`weight` / 2 times the mean squared slope of D at real images.

    It is computed lazily, in every `every_updates`-th update, as in StyleGAN2.
    """

    slopes = frozenset({"real"})
    bounds_slope = True

    def __init__(self, *, weight: Annotated[float, Gt(0)], every_updates: Annotated[int, Ge(1)]) -> None:
        super().__init__()
        self.every_updates = every_updates
        self.register_buffer("weight", torch.tensor(weight))
        self.weight: Tensor

    def penalty(self, real: Side, fake: Side, judge: Judge) -> Tensor:
        return self.weight / 2 * squared_slope(real.logits, real.images).mean()
