"""The pulling-away term of EBGAN (Zhao, Mathieu and LeCun, 2017, arXiv:1609.03126, section 2.4).

Fakes should differ in D's features.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn.functional import normalize

from twoplayer.models.base import Judge, Side
from twoplayer.tricks.base import Trick


class PullingAway(Trick):
    """`weight` times the mean squared cosine between the features of fakes, over all pairs."""

    def __init__(self, *, weight: Annotated[float, Gt(0)], every_updates: Annotated[int, Ge(1)]) -> None:
        super().__init__()
        self.every_updates = every_updates
        self.register_buffer("weight", torch.tensor(weight))
        self.weight: Tensor

    def generator_penalty(self, real: Side | None, fake: Side, judge: Judge) -> Tensor:
        directions = normalize(fake.features.flatten(1), dim=1)
        cosines = directions @ directions.T
        num = len(cosines)
        return self.weight * (cosines.square().sum() - cosines.diagonal().square().sum()) / (num * (num - 1))
