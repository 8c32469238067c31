"""Coupled GANs (Liu and Tuzel, 2016, arXiv:1606.07536): pairs of images without pairs in training.

One latent gives an image of each domain. Since most layers are shared, both show the same thing.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from twoplayer.models import dcgan
from twoplayer.models.base import Batch, Example, Model, Picture
from twoplayer.models.layers import to_images
from twoplayer.models.resolutions import refuse_image_size
from twoplayer.models.translation import in_turn

TWO = "model=cogan's D is told the domain of an image instead"


class Generator(dcgan.Generator):
    """A DCGAN's generator with a second end, of two layers, for sources."""

    beside = ("sources",)

    def __init__(self, *, channels: dcgan.Size, width: dcgan.Size, **settings: Any) -> None:
        super().__init__(channels=channels, width=width, **settings)
        self.sources = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, channels, 3, 1, 1))

    def both(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Images like targets, and images like sources, of the same latents."""
        maps = self.convolutions(self.first_maps(latents))
        return to_images(self.output(maps), self.output_activation), to_images(self.sources(maps), self.output_activation)


class CoGAN(Model):
    """A generator of pairs, and one discriminator that is told the domain of an image.

    The targets and the sources of a batch take turns in one batch of twice the size.
    """

    judges_images = False
    needs = frozenset({"sources"})
    lacks = {
        "labels": TWO,
        "packs": TWO,
        "latents": "model=cogan's D gets two images of each latent",
        "a prior": "model=cogan's is the normal distribution",
    }

    def __init__(self, generator: Generator, discriminator: dcgan.Discriminator) -> None:
        super().__init__(generator, discriminator)

    @staticmethod
    def refuse(config: DictConfig) -> None:
        refuse_image_size(config)
        dcgan.refuse_autoencoder(config)

    def real(self, batch: Batch, latents: Tensor) -> Example:
        """Targets and sources in turn."""
        return in_turn(batch[0], batch[2])

    def fake(self, batch: Batch, latents: Tensor) -> Example:
        """Both images of each latent in turn."""
        return in_turn(*cast(Generator, self.generator).both(latents))

    def pictures(self, batch: Batch, view: Callable[[Tensor], Tensor]) -> dict[str, Picture]:
        """Pairs: images like sources above images like targets, of the same latents."""
        latents = torch.randn(len(batch[0]), self.latent_size, device=batch[0].device)
        targets, sources = cast(Generator, self.generator).both(latents)
        return {"pairs": Picture(torch.cat([sources.float(), targets.float()]), len(targets))}
