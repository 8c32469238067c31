"""The autoencoder (Hinton and Salakhutdinov, 2006): images to codes and back, and nothing else.

Its codes are standardized, but otherwise distributed as they come out, so samples from random
latents show what a prior is for.
"""

from torch import Tensor

from twoplayer.models import encoding
from twoplayer.models.base import Batch, Example


class Autoencoder(encoding.Encoding):
    """An encoder and a generator without a discriminator. A fake is the image of its own code."""

    restores = True
    lacks = {
        "a discriminator": "model=autoencoder has none",
        "latents": "model=autoencoder's fakes are reconstructions",
        "a prior": "model=autoencoder's codes have none",
    }

    def __init__(self, generator: encoding.Generator) -> None:
        super().__init__(generator, None)

    def fake(self, batch: Batch, latents: Tensor) -> Example:
        """The reconstructions of the batch; latents are not used."""
        images, labels = batch[:2]
        return Example(self.restore(images, labels), labels, None)
