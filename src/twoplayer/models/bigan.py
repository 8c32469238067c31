"""BiGAN (Donahue, Krähenbühl and Darrell, 2017, arXiv:1605.09782), and ALI (Dumoulin et al., 2017).

D judges pairs of an image and a code: a real image with the code that the encoder gives it, and a
fake with its latents. The encoder thereby comes to invert the generator, though no reconstruction
is ever compared with its image.
"""

from typing import cast

import torch
from hydra.utils import get_class
from omegaconf import DictConfig
from torch import Tensor, nn

from twoplayer.errors import ConfigurationError
from twoplayer.models import dcgan, encoding
from twoplayer.models.base import Batch, Example, Hide, Judge, Side
from twoplayer.models.layers import Normalization, to_logits
from twoplayer.settings import family


class Discriminator(nn.Module):
    """Pairs of images and codes (N, code_size) to logits.

    The convolutions are those of a DCGAN's discriminator; the code goes through a layer of its own,
    and both through a layer of `joint_width`.
    """

    def __init__(
        self,
        *,
        width: dcgan.Size,
        joint_width: dcgan.Size,
        channels: dcgan.Size,
        image_size: int,
        normalization: Normalization,
        code_size: dcgan.Size,
        num_outputs: dcgan.Size,
    ) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        self.convolutions, num_features = dcgan.halving(channels, width, image_size, normalization, "strided")
        self.codes = nn.Sequential(nn.Linear(code_size, joint_width), nn.LeakyReLU(0.2))
        self.joint = nn.Sequential(nn.Linear(num_features + joint_width, joint_width), nn.LeakyReLU(0.2))
        self.output: nn.Module = nn.Linear(joint_width, num_outputs)

    def forward(self, images: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and features: the last hidden layer."""
        features = self.joint(torch.cat([self.convolutions(images), self.codes(codes)], 1))
        return to_logits(self.output(features)), features


class BiGAN(encoding.Encoding):
    """A DCGAN with an encoder, and a discriminator of pairs."""

    needs_real = True
    lacks = {"single examples": "model=bigan's D judges pairs of images and codes"}

    def __init__(self, generator: encoding.Generator, discriminator: Discriminator) -> None:
        super().__init__(generator, discriminator)

    @staticmethod
    def refuse(config: DictConfig) -> None:
        encoding.Encoding.refuse(config)
        loss = get_class(config.loss._target_)
        if loss.of_vectors or not loss.needs_discriminator:
            raise ConfigurationError(
                f"loss={family(config.loss)}: model=bigan's encoder learns from D's logits of pairs; choose a loss of one logit per image, such as loss=non_saturating"
            )

    def real(self, batch: Batch, latents: Tensor) -> Example:
        """Real images, each with its code."""
        return self.example(*batch[:2])

    def example(self, images: Tensor, labels: Tensor) -> Example:
        """Images, each with its code."""
        return Example(images, labels, self.encode(images, labels))

    def judge(self, example: Example) -> tuple[Tensor, Tensor]:
        """The logits and features of pairs."""
        return cast(tuple[Tensor, Tensor], self.discriminator(example.images, example.latents))

    def generator_costs(self, batch: Batch, real: Side | None, fake: Side, judge: Judge, hide: Hide) -> dict[str, Tensor]:
        """The encoder's cost: real pairs are to look like fakes."""
        assert real is not None
        return {"encoder": hide(real.logits)}
