"""The adversarial autoencoder (Makhzani et al., 2016, arXiv:1511.05644).

D judges codes: latents of the prior are real, the codes of images are fake. So codes come to be
distributed like the prior, whatever that is.
"""

from typing import Annotated

from annotated_types import Gt
from torch import Tensor

from twoplayer.models import encoding, mlp
from twoplayer.models.base import Batch, Example, Hide, Judge, Side

CODES = "model=aae's D judges codes"


class JudgesCodes(encoding.Encoding):
    """The base class of families whose discriminator judges the codes of images."""

    judges_images = False

    def fake(self, batch: Batch, latents: Tensor) -> Example:
        """The codes of the batch."""
        return self.example(*batch[:2])

    def example(self, images: Tensor, labels: Tensor) -> Example:
        """The codes of images."""
        return Example(self.encode(images, labels), labels, None)

    def reconstruction(self, fake: Side, batch: Batch) -> Tensor:
        """The mean squared error of what the generator makes of codes that D has judged."""
        images, labels = batch[:2]
        return (self.decode(fake.images, labels).float() - images).square().mean()


class AAE(JudgesCodes):
    """An autoencoder whose codes fool a fully connected discriminator.

    `weight` is that of the mean squared error of a pixel.
    """

    lacks = {"images": CODES, "labels": CODES, "single examples": CODES, "latents": CODES}

    def __init__(self, generator: encoding.Generator, discriminator: mlp.Discriminator, *, weight: Annotated[float, Gt(0)]) -> None:
        super().__init__(generator, discriminator)
        self.weight = weight

    def real(self, batch: Batch, latents: Tensor) -> Example:
        """Latents of the prior."""
        return Example(latents, batch[1], None)

    def generator_costs(self, batch: Batch, real: Side | None, fake: Side, judge: Judge, hide: Hide) -> dict[str, Tensor]:
        """The error of what the generator makes of the codes."""
        return {"reconstruction": self.weight * self.reconstruction(fake, batch)}
