"""WGAN-GP (Gulrajani et al., 2017, arXiv:1704.00028).

The critic's slope should be 1 between real images and fakes.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from twoplayer.errors import ConfigurationError
from twoplayer.models.base import Judge, Side, as_example
from twoplayer.tricks.base import Trick
from twoplayer.tricks.slopes import one_per_logit, slopes


class WGANGP(Trick):
    """`weight` times the mean of (slope - 1)^2 at random points between a real image and a fake."""

    bounds_slope = True

    def __init__(self, *, weight: Annotated[float, Gt(0)], every_updates: Annotated[int, Ge(1)]) -> None:
        super().__init__()
        self.every_updates = every_updates
        self.register_buffer("weight", torch.tensor(weight))
        self.weight: Tensor

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse batch normalization, which makes the slope at one image depend on the others."""
        if OmegaConf.select(config, "model.discriminator.normalization") == "batch":
            chosen = next(name for name in ("wgan_gp", "mmd_gp") if name in config.trick)
            raise ConfigurationError(f"trick={chosen}: it does not work with model.discriminator.normalization=batch; set layer or none")

    def penalty(self, real: Side, fake: Side, judge: Judge) -> Tensor:
        share = one_per_logit(real)
        images = torch.lerp(fake.images.detach(), real.images.detach(), share).requires_grad_()
        logits = judge(as_example(real, images)).logits
        return self.weight * (torch.linalg.vector_norm(slopes(logits, images), dim=1) - 1).square().mean()
