"""LeCam regularization (Tseng et al., 2021, arXiv:2104.03310).

D's output on each side is pulled to its running mean on the other side.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt
from omegaconf import DictConfig
from torch import Tensor, nn

from twoplayer.distributed import ranks
from twoplayer.models.base import Judge, Side
from twoplayer.tricks.base import Trick, refuse_vectors


class LeCam(Trick):
    """`weight` times the mean squared distances of D(x) to mean D(G(z)) and D(G(z)) to mean D(x).

    The means are running means with `decay`, corrected for their start at zero, as Adam's are. The
    first update has no running means yet and so no penalty.
    """

    def __init__(
        self, *, weight: Annotated[float, Gt(0)], decay: Annotated[float, Ge(0), Lt(1)], every_updates: Annotated[int, Ge(1)]
    ) -> None:
        super().__init__()
        self.decay, self.every_updates = decay, every_updates
        self.register_buffer("weight", torch.tensor(weight))
        self.register_buffer("averages", torch.zeros(2))  # of D(x) and D(G(z))
        self.register_buffer("known", torch.zeros(1))  # the weight of all updates in the averages: 1 - decay^updates
        self.weight: Tensor
        self.averages: Tensor
        self.known: Tensor

    @staticmethod
    def refuse(config: DictConfig) -> None:
        refuse_vectors("lecam", config, "but this trick needs one number per image")

    def penalty(self, real: Side, fake: Side, judge: Judge) -> Tensor:
        on_real, on_fake = self.averages / self.known.clamp_min(1e-12)
        distances = (real.logits - on_fake).square().mean() + (fake.logits - on_real).square().mean()
        return self.weight * (self.known > 0).squeeze() * distances

    def after_discriminator(self, discriminator: nn.Module, real: Side, fake: Side) -> None:
        self.averages.lerp_(ranks.mean(torch.stack([real.logits.mean(), fake.logits.mean()])), 1 - self.decay)
        self.known.lerp_(torch.ones_like(self.known), 1 - self.decay)

    def report(self) -> dict[str, Tensor]:
        on_real, on_fake = self.averages / self.known.clamp_min(1e-12)
        return {"real": on_real, "fake": on_fake}
