"""ClusterGAN (Mukherjee et al., 2019, arXiv:1809.03627): clusters in the latents.

A latent is a category and a little noise. An encoder, which is no part of the discriminator, finds
both again in a fake, and so puts real images into categories without a label.
"""

from typing import Annotated, Any, cast

import torch
from annotated_types import Ge, Gt
from omegaconf import DictConfig
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from twoplayer.errors import ConfigurationError
from twoplayer.models import dcgan, encoding
from twoplayer.models.base import Batch, Hide, Judge, Side
from twoplayer.models.conditioning import refuse_conditioning
from twoplayer.models.resolutions import refuse_image_size


class Generator(encoding.Generator):
    """The largest of the first `categories` latents becomes the category; the rest is the noise.

    The noise is multiplied by `noise_scale`, so that images vary less within a category than
    between them.
    """

    def __init__(self, *, categories: Annotated[int, Ge(2)], noise_scale: Annotated[float, Gt(0)], **settings: Any) -> None:
        super().__init__(**settings)
        self.categories, self.noise_scale = categories, noise_scale

    @property
    def layout(self) -> str:
        """See `Model`."""
        num = self.categories
        codes = f"torch.nn.functional.one_hot(z[:, :{num}].argmax(1), {num}).to(z.dtype)"
        prior = f"torch.cat([{codes}, {self.noise_scale:g} * z[:, {num}:]], 1)"
        return super().layout.replace("projection(z)", f"projection({prior})")

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images in [-1, 1]."""
        return self.images(self.prior(latents), labels)

    def prior(self, latents: Tensor) -> Tensor:
        """Normal latents as codes of the same shape."""
        categories = one_hot(latents[:, : self.categories].argmax(1), self.categories).to(latents.dtype)
        return torch.cat([categories, self.noise_scale * latents[:, self.categories :]], 1)

    def images(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Images in [-1, 1] of codes."""
        return super().forward(codes, labels)


class ClusterGAN(encoding.Encoding):
    """A DCGAN and an encoder of its fakes, whose first numbers are the logits of categories.

    `category_weight` is that of the cross-entropy of the category, `noise_weight` that of the mean
    squared error of the noise.
    """

    lacks = {"a prior": "model=cluster_gan has one of its own", "latents": "model=cluster_gan has codes of its own"}

    def __init__(
        self,
        generator: Generator,
        discriminator: dcgan.Discriminator,
        *,
        category_weight: Annotated[float, Gt(0)],
        noise_weight: Annotated[float, Ge(0)],
    ) -> None:
        super().__init__(generator, discriminator)
        self.category_weight, self.noise_weight = category_weight, noise_weight

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse what a DCGAN refuses, and more categories than latents."""
        refuse_image_size(config)
        dcgan.refuse_autoencoder(config)
        refuse_conditioning(config)
        generator = config.model.generator
        if generator.categories >= generator.latent_size:
            raise ConfigurationError(
                f"model.generator.categories={generator.categories}: of {generator.latent_size} latents none is left for the noise; "
                f"set model.generator.latent_size={generator.categories + 1} or more"
            )

    def encode(self, images: Tensor, labels: Tensor) -> Tensor:
        """The codes (N, latent_size) of images: probabilities of categories, and the noise."""
        logits, noise = self._found(images)
        return torch.cat([logits.softmax(1), noise], 1)

    def decode(self, codes: Tensor, labels: Tensor) -> Tensor:
        """The images of codes."""
        return cast(Generator, self.generator).images(codes, labels)

    def clusters(self, images: Tensor, labels: Tensor) -> Tensor:
        """The most probable categories (N) of images."""
        return self._found(images)[0].argmax(1)

    def code(self, latents: Tensor) -> Tensor:
        """The categories (N) in latents."""
        return latents[:, : cast(Generator, self.generator).categories].argmax(1)

    def generator_costs(self, batch: Batch, real: Side | None, fake: Side, judge: Judge, hide: Hide) -> dict[str, Tensor]:
        """How badly the encoder finds category and noise of a fake."""
        assert fake.latents is not None
        logits, noise = self._found(fake.images)
        scaled = cast(Generator, self.generator).prior(fake.latents)[:, logits.shape[1] :]
        return {
            "category": self.category_weight * cross_entropy(logits, self.code(fake.latents)),
            "noise": self.noise_weight * (noise - scaled).square().mean(),
        }

    def _found(self, images: Tensor) -> tuple[Tensor, Tensor]:
        num = cast(Generator, self.generator).categories
        codes = self.encoder(images)
        return codes[:, :num], codes[:, num:]
