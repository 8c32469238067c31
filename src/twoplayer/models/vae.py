"""The variational autoencoder (Kingma and Welling, 2014, arXiv:1312.6114).

Codes are drawn from a normal distribution around what the encoder says, and pulled to the standard
normal one, so that images can be drawn from random latents. A weight `beta` other than 1 makes it
a beta-VAE (Higgins et al., 2017).
"""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from twoplayer.models import encoding
from twoplayer.models.base import Batch, Example, Hide, Judge, Side


class VAE(encoding.Encoding):
    """An autoencoder with a prior. The encoder's numbers are means, then log variances."""

    restores = True
    lacks = {
        "a discriminator": "model=vae has none",
        "latents": "model=vae's fakes are reconstructions",
        "a prior": "model=vae's is the normal distribution",
    }

    def __init__(self, generator: encoding.Generator, *, beta: Annotated[float, Ge(0)]) -> None:
        super().__init__(generator, None)
        self.beta = beta

    def encode(self, images: Tensor, labels: Tensor) -> Tensor:
        """The means of the codes."""
        return encoding.codes_of(self.encoder, images)[0]

    def fake(self, batch: Batch, latents: Tensor) -> Example:
        """Reconstructions from drawn codes; the latents are the noise that draws them."""
        images, labels = batch[:2]
        mean, log_variance = encoding.codes_of(self.encoder, images)
        codes = encoding.drawn(mean, log_variance, latents)
        return Example(self.generator(codes, labels), labels, codes, torch.cat([mean, log_variance], 1))

    def generator_costs(self, batch: Batch, real: Side | None, fake: Side, judge: Judge, hide: Hide) -> dict[str, Tensor]:
        """The divergence of codes from the prior, in nats."""
        assert fake.own is not None
        mean, log_variance = fake.own.chunk(2, 1)
        return {"divergence": self.beta * encoding.divergence(mean, log_variance)}
