"""LeCam regularization (Tseng et al., 2021, arXiv:2104.03310): D's output on one side is drawn to its running mean on the other."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from twoplayer import ranks
from twoplayer.models.base import Side
from twoplayer.tricks.base import Judge, Trick


class LeCam(Trick):
    """`weight` times the mean squared distances of D(x) from the mean D(G(z)) and of D(G(z)) from the mean D(x), both averaged with `decay`."""

    def __init__(self, *, weight: Annotated[float, Gt(0)], decay: Annotated[float, Ge(0), Lt(1)], every: Annotated[int, Ge(1)]) -> None:
        super().__init__()
        self.decay, self.every = decay, every
        self.register_buffer("weight", torch.tensor(weight))
        self.register_buffer("anchors", torch.zeros(2))
        self.weight: Tensor
        self.anchors: Tensor

    def penalty(self, real: Side, fake: Side, judge: Judge) -> Tensor:
        """Both sides."""
        real_mean, fake_mean = self.anchors.clone()
        return self.weight * ((real.logits - fake_mean).square().mean() + (fake.logits - real_mean).square().mean())

    def after_discriminator(self, discriminator: nn.Module, real: Side, fake: Side) -> None:
        """Move the means."""
        self.anchors.lerp_(ranks.mean(torch.stack([real.logits.mean(), fake.logits.mean()])), 1 - self.decay)
