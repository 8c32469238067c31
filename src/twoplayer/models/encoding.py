"""Models with an encoder: from images to codes, beside the way from latents to images.

The encoder belongs to the generator: it is trained, averaged and saved with it.
"""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from twoplayer.models import dcgan
from twoplayer.models.base import Batch, Model, Picture
from twoplayer.models.conditioning import refuse_conditioning
from twoplayer.models.layers import Normalization, psnr
from twoplayer.models.resolutions import refuse_image_size

STEPS = 8
"""Of an interpolation between two real images."""


class Encoder(nn.Module):
    """Images (N, channels, image_size, image_size) to codes (N, code_size).

    Its convolutions are those of a DCGAN's discriminator. If `standardized`, each number has a mean
    of 0 and a variance of 1 over the batch in training, and over all images later. If `variances`,
    as many log variances follow the codes.
    """

    def __init__(
        self,
        *,
        width: dcgan.Size,
        channels: dcgan.Size,
        image_size: int,
        normalization: Normalization,
        code_size: dcgan.Size,
        standardized: bool,
        variances: bool,
    ) -> None:
        super().__init__()
        self.convolutions, num_features = dcgan.halving(channels, width, image_size, normalization, "strided")
        num = 2 * code_size if variances else code_size
        self.output = nn.Linear(num_features, num)
        self.standardize = nn.BatchNorm1d(num, affine=False) if standardized else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Codes in float32, (N, code_size) or (N, 2 * code_size)."""
        return cast(Tensor, self.standardize(self.output(self.convolutions(images)).float()))


class Generator(dcgan.Generator):
    """A DCGAN's generator, and an encoder."""

    beside = ("encoder",)

    def __init__(self, *, encoder: Encoder, **settings: Any) -> None:
        super().__init__(**settings)
        self.encoder = encoder


class Encoding(Model):
    """The base class of families with an encoder."""

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse sizes of images and ways of telling the classes that the networks cannot take."""
        refuse_image_size(config)
        refuse_conditioning(config)

    @property
    def encoder(self) -> Encoder:
        """The encoder, a part of the generator."""
        return cast(Generator, self.generator).encoder

    def encode(self, images: Tensor, labels: Tensor) -> Tensor:
        """The code (N, latent_size) of images: latents from which the generator restores them."""
        return self.encoder(images)

    def decode(self, codes: Tensor, labels: Tensor) -> Tensor:
        """The images of codes, by default those that the generator makes of them as latents."""
        return cast(Tensor, self.generator(codes, labels))

    def restore(self, images: Tensor, labels: Tensor) -> Tensor:
        """What the generator makes of the codes of images."""
        return self.decode(self.encode(images, labels), labels)

    def measures(self, batch: Batch) -> dict[str, Tensor]:
        """The peak signal-to-noise ratio of reconstructions, in dB."""
        images, labels = batch[:2]
        return {"psnr": psnr(self.restore(images, labels), images)}

    def pictures(self, batch: Batch, view: Callable[[Tensor], Tensor]) -> dict[str, Picture]:
        """Images above their reconstructions, and ways from one real image to another."""
        images, labels = batch[:2]
        rows = torch.cat([images, self.restore(images, labels).float()])
        pairs = math.floor(len(images) / 2)
        codes = self.encode(images, labels)
        ends = codes[:pairs, None], codes[pairs : 2 * pairs, None]
        share = torch.linspace(0, 1, STEPS, device=codes.device)[None, :, None]
        ways = self.decode(torch.lerp(*ends, share).flatten(0, 1), labels[:pairs].repeat_interleave(STEPS)).float()
        columns = torch.cat([images[:pairs, None], ways.unflatten(0, (pairs, STEPS)), images[pairs : 2 * pairs, None]], 1)
        return {"reconstructions": Picture(rows, len(images)), "interpolations": Picture(columns.flatten(0, 1), STEPS + 2)}


def codes_of(encoder: Encoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the log variance (N, d) of the codes of images, where the encoder gives both."""
    mean, log_variance = encoder(images).chunk(2, 1)
    return mean, log_variance


def drawn(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Codes (N, d) from these normal distributions; gradients reach mean and variance."""
    return mean + (log_variance / 2).exp() * noise


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """The Kullback-Leibler divergence to the standard normal distribution, in nats per image."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
