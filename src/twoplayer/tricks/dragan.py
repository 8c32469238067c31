"""DRAGAN (Kodali et al., 2017, arXiv:1705.07215): D's slope should be 1 around real images.

This avoids sharp local optima.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from twoplayer.models.base import Judge, Side, as_example
from twoplayer.tricks.base import Trick
from twoplayer.tricks.slopes import one_per_logit, slopes


class DRAGAN(Trick):
    """`weight` times the mean of (slope - 1)^2 at real images with added noise.

    For each image the noise is a random share of uniform noise, which reaches up to `spread` times
    the standard deviation of the batch.
    """

    bounds_slope = True

    def __init__(self, *, weight: Annotated[float, Gt(0)], spread: Annotated[float, Gt(0)], every_updates: Annotated[int, Ge(1)]) -> None:
        super().__init__()
        self.spread, self.every_updates = spread, every_updates
        self.register_buffer("weight", torch.tensor(weight))
        self.weight: Tensor

    def penalty(self, real: Side, fake: Side, judge: Judge) -> Tensor:
        """The norm of a slope is over all pixels of an image."""
        images = real.images.detach()
        share = one_per_logit(real)
        perturbed = (images + share * self.spread * images.std() * torch.rand_like(images)).requires_grad_()
        logits = judge(as_example(real, perturbed)).logits
        return self.weight * (torch.linalg.vector_norm(slopes(logits, perturbed), dim=1) - 1).square().mean()
