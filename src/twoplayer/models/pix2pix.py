"""Pix2pix (Isola et al., 2017, arXiv:1611.07004): a conditional GAN whose label is an image.

Other pairs make other papers of it: the Context Encoder (Pathak et al., 2016, arXiv:1604.07379),
CC-GAN (Denton et al., 2016, arXiv:1611.06430) and SRGAN (Ledig et al., 2017, arXiv:1609.04802).
"""

from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Ge
from omegaconf import DictConfig
from torch import Tensor

from twoplayer.models import translation
from twoplayer.models.base import Batch, Hide, Judge, Model, Picture, Side
from twoplayer.models.layers import psnr
from twoplayer.models.resolutions import refuse_image_size

BESIDE = "model=pix2pix's D judges images beside their sources"


class Pix2Pix(Model):
    """A U-Net that is to give each source its own target, and to fool a discriminator.

    `weight` is that of the mean absolute difference of a pixel from the target, in [0, 2].
    """

    translates = True
    restores = True
    judges_images = False
    needs = frozenset({"sources", "pairs"})
    lacks = {"images": BESIDE, "labels": BESIDE, "latents": BESIDE, "single examples": BESIDE}

    def __init__(
        self, generator: translation.Generator, discriminator: translation.Discriminator, *, weight: Annotated[float, Ge(0)]
    ) -> None:
        super().__init__(generator, discriminator)
        self.weight = weight

    @staticmethod
    def refuse(config: DictConfig) -> None:
        refuse_image_size(config)

    def generator_costs(self, batch: Batch, real: Side | None, fake: Side, judge: Judge, hide: Hide) -> dict[str, Tensor]:
        """The weighted difference from the targets."""
        return {"absolute": self.weight * (fake.images - batch[0]).abs().mean()}

    def measures(self, batch: Batch) -> dict[str, Tensor]:
        """The peak signal-to-noise ratio of translations and of sources against targets, in dB."""
        targets, _, sources = batch[:3]
        return {"psnr": psnr(self._translated(sources), targets), "psnr_of_sources": psnr(sources, targets)}

    def pictures(self, batch: Batch, view: Callable[[Tensor], Tensor]) -> dict[str, Picture]:
        """Rows of sources, what becomes of them, and their targets."""
        targets, _, sources = batch[:3]
        return {"translations": Picture(torch.cat([sources, self._translated(sources), targets]), len(targets))}

    def _translated(self, sources: Tensor) -> Tensor:
        images: Tensor = self.generator(torch.zeros(len(sources), self.latent_size, device=sources.device), sources)
        return images.float()
