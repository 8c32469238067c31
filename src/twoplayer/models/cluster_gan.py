"""ClusterGAN (Mukherjee et al., 2019, arXiv:1809.03627): clusters in the latents.

A latent is a category and a little noise. An encoder, which is no part of the discriminator, finds
both again in a fake, and so puts real images into categories without a label.
"""

from typing import Annotated

from annotated_types import Ge, Gt
from omegaconf import DictConfig
from torch import Tensor
from torch.nn.functional import cross_entropy

from twoplayer.models import dcgan
from twoplayer.models.base import Batch, Hide, Judge, Side
from twoplayer.models.categories import Categories, Generator


class ClusterGAN(Categories):
    """A DCGAN and an encoder of its fakes.

    `category_weight` is that of the cross-entropy of the category, `style_weight` that of the mean
    squared error of the style.
    """

    lacks = {"a prior": "model=cluster_gan has one of its own", "latents": "model=cluster_gan has codes of its own"}

    def __init__(
        self,
        generator: Generator,
        discriminator: dcgan.Discriminator,
        *,
        category_weight: Annotated[float, Gt(0)],
        style_weight: Annotated[float, Ge(0)],
    ) -> None:
        super().__init__(generator, discriminator)
        self.category_weight, self.style_weight = category_weight, style_weight

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse what all models with categories refuse, and an autoencoder as D."""
        Categories.refuse(config)
        dcgan.refuse_autoencoder(config)

    def generator_costs(self, batch: Batch, real: Side | None, fake: Side, judge: Judge, hide: Hide) -> dict[str, Tensor]:
        """How badly the encoder finds category and style of a fake."""
        assert fake.latents is not None
        logits, style = self.found(fake.images)
        drawn = self.prior(fake.latents)[:, self.num_categories :]
        return {
            "category": self.category_weight * cross_entropy(logits, self.code(fake.latents)),
            "style": self.style_weight * (style - drawn).square().mean(),
        }
