"""Fisher GAN (Mroueh and Sercu, 2017, arXiv:1705.09675).

An augmented Lagrangian keeps the critic's second moment at 1.
"""

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from twoplayer.distributed import ranks
from twoplayer.losses.base import Loss
from twoplayer.models.base import Side


class Fisher(Loss):
    """The difference of the critic's means in units of its spread. Its slope needs no bound."""

    boundary = None
    soft_labels = False
    batchwise = True

    def __init__(self, *, penalty: Annotated[float, Gt(0)]) -> None:
        super().__init__()
        self.penalty = penalty
        self.register_buffer("multiplier", torch.tensor(0.0))
        self.multiplier: Tensor

    def discriminator(self, real: Side, fake: Side, real_target: Tensor, fake_target: Tensor) -> Tensor:
        """The negative augmented Lagrangian."""
        excess = _second_moment(real.logits, fake.logits) - 1
        return fake.logits.mean() - real.logits.mean() + self.multiplier * excess + self.penalty / 2 * excess.square()

    def fool(self, logits: Tensor) -> Tensor:
        return -logits

    def hide(self, logits: Tensor) -> Tensor:
        """The mean logit, as linear as the cost of a fake."""
        return logits.mean()

    def update(self, real: Side, fake: Side) -> None:
        """Move the multiplier one step towards the constraint."""
        self.multiplier.add_(self.penalty * (ranks.mean(_second_moment(real.logits, fake.logits)) - 1))

    def report(self) -> dict[str, Tensor]:
        return {"multiplier": self.multiplier}


def _second_moment(real: Tensor, fake: Tensor) -> Tensor:
    return (real.square().mean() + fake.square().mean()) / 2
