"""PixelCNN (van den Oord et al., 2016, arXiv:1601.06759): an image, pixel by pixel.

It has an exact likelihood, no codes, and is slow to sample. The latents are the chances by which
the pixels are drawn, one for each.
"""

import math
from typing import Annotated, cast

import torch
from annotated_types import Ge
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from twoplayer.errors import ConfigurationError
from twoplayer.models.autoregressive import Autoregressive, Dilations, Size, uniform
from twoplayer.models.base import Batch, Example, Hide, Judge, Model, Side


class Generator(nn.Module):
    """Latents (N, image_size ** 2), one per pixel, to gray images of so many `levels`."""

    layout = None
    """It is no expression of plain layers."""

    def __init__(self, *, width: Size, dilations: Dilations, levels: Annotated[int, Ge(2)], image_size: Size) -> None:
        super().__init__()
        self.image_size, self.levels, self.latent_size = image_size, levels, image_size**2
        self.pixels = Autoregressive(inputs=1, categories=levels, size=image_size, width=width, dilations=dilations)
        self.output = self.pixels.head

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images in [-1, 1], drawn one pixel after the other."""
        chances = uniform(latents).view(-1, self.image_size, self.image_size)
        values = torch.linspace(-1, 1, self.levels, device=latents.device)
        return values[self.pixels.draw(chances, values[:, None])][:, None]

    def levels_of(self, images: Tensor) -> Tensor:
        """The level (N, H, W) of each pixel of images (N, 1, H, W)."""
        return ((images[:, 0].float() + 1) / 2 * (self.levels - 1)).round().long()


class PixelCNN(Model):
    """A generator without a discriminator, trained by the likelihood of images."""

    lacks = {
        "a discriminator": "model=pixel_cnn has none",
        "latents": "model=pixel_cnn draws no fakes in training",
        "a prior": "model=pixel_cnn's latents are the chances of pixels",
        "hidden layers": "model=pixel_cnn draws each pixel through its own layers",
    }

    def __init__(self, generator: Generator) -> None:
        super().__init__(generator, None)

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse images with colours."""
        if config.data.channels != 1:
            raise ConfigurationError(f"data.channels={config.data.channels}: model=pixel_cnn draws gray images; set data.channels=1")

    def fake(self, batch: Batch, latents: Tensor) -> Example:
        """The batch, and the logits of its pixels: none is drawn in training."""
        return Example(batch[0], batch[1], None, self._pixels(batch[0]))

    def generator_costs(self, batch: Batch, real: Side | None, fake: Side, judge: Judge, hide: Hide) -> dict[str, Tensor]:
        """The bits per pixel that a code by this model would need."""
        assert fake.own is not None
        return {"bits_per_dimension": self._bits(fake.own, batch[0]).mean()}

    def measures(self, batch: Batch) -> dict[str, Tensor]:
        """The bits per pixel of held-out images."""
        return {"bits_per_dimension": self._bits(self._pixels(batch[0]), batch[0])}

    def _pixels(self, images: Tensor) -> Tensor:
        """Logits (N, levels, H, W) of the pixels of images."""
        return cast(Tensor, cast(Generator, self.generator).pixels(images))

    def _bits(self, logits: Tensor, images: Tensor) -> Tensor:
        levels = cast(Generator, self.generator).levels_of(images)
        return cross_entropy(logits.float(), levels, reduction="none").flatten(1).mean(1) / math.log(2)
