"""VAE-GAN (Larsen et al., 2016, arXiv:1512.09300): a VAE whose error is measured by D's features.

So a reconstruction need not agree pixel by pixel, which is what blurs the images of a VAE.
"""

from typing import Annotated

from annotated_types import Ge, Gt
from omegaconf import DictConfig
from torch import Tensor

from twoplayer.errors import ConfigurationError
from twoplayer.models import dcgan, encoding
from twoplayer.models.base import Batch, Hide, Judge, Side


class VAEGAN(encoding.Encoding):
    """A DCGAN with an encoder, whose numbers are means, then log variances.

    `weight` is that of the mean squared difference of D's features between images and their
    reconstructions, `beta` that of the divergence of codes from the prior. Fakes are drawn from the
    prior, as in any GAN.
    """

    needs_real = True
    lacks = {"a prior": "model=vae_gan's is the normal distribution"}

    def __init__(
        self,
        generator: encoding.Generator,
        discriminator: dcgan.Discriminator,
        *,
        weight: Annotated[float, Gt(0)],
        beta: Annotated[float, Ge(0)],
    ) -> None:
        super().__init__(generator, discriminator)
        self.weight, self.beta = weight, beta

    @staticmethod
    def refuse(config: DictConfig) -> None:
        encoding.Encoding.refuse(config)
        dcgan.refuse_autoencoder(config)
        if "mixed_batches" in config.trick and config.model.discriminator.normalization == "batch":
            raise ConfigurationError(
                "trick=mixed_batches: with batch normalization D would normalize reconstructions by other statistics than their images; "
                "set model.discriminator.normalization=layer, or leave the trick out"
            )

    def encode(self, images: Tensor, labels: Tensor) -> Tensor:
        """The means of the codes."""
        return encoding.codes_of(self.encoder, images)[0]

    def generator_costs(self, batch: Batch, real: Side | None, fake: Side, judge: Judge, hide: Hide) -> dict[str, Tensor]:
        """The error of reconstructions in D's features, and the divergence in nats per image.

        The latents of the fakes are the noise that draws the codes.
        """
        assert real is not None
        assert fake.latents is not None
        images, labels = batch[:2]
        mean, log_variance = encoding.codes_of(self.encoder, images)
        restored = self.generator(encoding.drawn(mean, log_variance, fake.latents), labels).float()
        features = judge(self.example(restored, labels)).features
        return {
            "features": self.weight * (features.float() - real.features.float()).square().mean(),
            "divergence": self.beta * encoding.divergence(mean, log_variance),
        }
