"""CycleGAN (Zhu et al., 2017, arXiv:1703.10593): translation without pairs.

Whatever is translated there and back should be what it was. DiscoGAN (Kim et al., 2017,
arXiv:1703.05192) and DualGAN (Yi et al., 2017, arXiv:1704.02510) are the same game with other
losses.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, cast

import torch
from annotated_types import Ge
from omegaconf import DictConfig
from torch import Tensor

from twoplayer.models import dcgan, translation
from twoplayer.models.base import Batch, Example, Hide, Judge, Model, Picture, Side
from twoplayer.models.layers import psnr
from twoplayer.models.resolutions import refuse_image_size
from twoplayer.models.translation import in_turn

TWO = "model=cycle_gan's D is told the domain of an image instead"


class Generator(translation.Generator):
    """A U-Net from sources to targets, and a second one, `back`, from targets to sources."""

    beside = ("back",)

    def __init__(self, *, channels: dcgan.Size, source_channels: dcgan.Size, **settings: Any) -> None:
        super().__init__(channels=channels, source_channels=source_channels, **settings)
        self.back = translation.Generator(channels=source_channels, source_channels=channels, **settings)


class CycleGAN(Model):
    """Two translators, and one discriminator that is told which domain an image should be of.

    The targets and the sources of a batch take turns in one batch of twice the size. `weight` is
    that of the mean error of a pixel after both ways, `identity` that of a translator's error on
    images that are of its domain already.
    """

    translates = True
    judges_images = False
    needs = frozenset({"sources"})
    lacks = {"labels": TWO, "packs": TWO, "latents": "model=cycle_gan's fakes are translations"}

    def __init__(
        self,
        generator: Generator,
        discriminator: dcgan.Discriminator,
        *,
        error: Literal["absolute", "squared"],
        weight: Annotated[float, Ge(0)],
        identity: Annotated[float, Ge(0)],
    ) -> None:
        super().__init__(generator, discriminator)
        self.error, self.weight, self.identity = error, weight, identity

    @staticmethod
    def refuse(config: DictConfig) -> None:
        refuse_image_size(config)
        dcgan.refuse_autoencoder(config)

    def real(self, batch: Batch, latents: Tensor) -> Example:
        """Targets and sources in turn."""
        return in_turn(batch[0], batch[2])

    def fake(self, batch: Batch, latents: Tensor) -> Example:
        """Translated sources and translated targets in turn."""
        return in_turn(self.generator(latents, batch[2]), self._back(latents, batch[0]))

    def generator_costs(self, batch: Batch, real: Side | None, fake: Side, judge: Judge, hide: Hide) -> dict[str, Tensor]:
        """The errors after both ways, and on images of the own domain."""
        targets, sources = batch[0], batch[2]
        latents = torch.zeros(len(targets), self.latent_size, device=targets.device)
        like_targets, like_sources = fake.images[::2], fake.images[1::2]
        there = self._error(self._back(latents, like_targets), sources) + self._error(self.generator(latents, like_sources), targets)
        costs = {"cycle": self.weight * there}
        if self.identity:
            same = self._error(self.generator(latents, targets), targets) + self._error(self._back(latents, sources), sources)
            costs["identity"] = self.identity * same
        return costs

    def measures(self, batch: Batch) -> dict[str, Tensor]:
        """The peak signal-to-noise ratio against targets, and of sources after both ways, in dB.

        Held-out sources belong to their targets, whether training has pairs or not.
        """
        targets, _, sources = batch[:3]
        latents = torch.zeros(len(targets), self.latent_size, device=targets.device)
        there = self.generator(latents, sources)
        return {"psnr": psnr(there, targets), "psnr_of_cycles": psnr(self._back(latents, there), sources)}

    def pictures(self, batch: Batch, view: Callable[[Tensor], Tensor]) -> dict[str, Picture]:
        """Rows of sources, what becomes of them, the same translated back, and their targets."""
        targets, _, sources = batch[:3]
        latents = torch.zeros(len(targets), self.latent_size, device=targets.device)
        there = self.generator(latents, sources)
        rows = [sources, there, self._back(latents, there), targets]
        return {"translations": Picture(torch.cat([row.float() for row in rows]), len(targets))}

    def _back(self, latents: Tensor, targets: Tensor) -> Tensor:
        return cast(Tensor, cast(Generator, self.generator).back(latents, targets))

    def _error(self, images: Tensor, others: Tensor) -> Tensor:
        difference = images.float() - others
        return (difference.abs() if self.error == "absolute" else difference.square()).mean()
