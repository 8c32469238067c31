"""InfoGAN (Chen et al., 2016, arXiv:1606.03657): codes among the latents that images must reveal.

One code is categorical; it comes to mean the class of an image, although no label is used.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, leaky_relu, mse_loss, one_hot

from twoplayer.errors import ConfigurationError
from twoplayer.losses.base import Loss
from twoplayer.models.base import Judge, Model, Picture, Side
from twoplayer.tricks.base import Draw, Trick


class Recognition(nn.Module):
    """Q of the paper: guesses the codes of an image from D's features."""

    def __init__(self, num_features: int, width: int, categories: int, continuous: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(num_features, width)
        self.category = nn.Linear(width, categories)
        self.continuous = nn.Linear(width, continuous)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, F) to logits (N, categories) and values (N, continuous), in float32."""
        hidden = leaky_relu(self.hidden(features), 0.1)
        return self.category(hidden).float(), self.continuous(hidden).float()


class Information(Trick):
    """Bounds the mutual information of codes and images from below, and maximizes the bound.

    The first latents become a scaled one-hot code of `categories`, the next ones `continuous`
    codes, uniform in [-1, 1]. The other latents, the noise, are multiplied by `noise_scale`: below
    1, images vary less within a category than between categories, as in ClusterGAN (Mukherjee et
    al., 2019, arXiv:1809.03627). Q, with one hidden layer of `width`, reads D's features and
    belongs to G. Both players are penalized by the error of its guesses: cross-entropy for the
    categorical code, squared error for the others.
    """

    needs = frozenset({"latents"})
    excludes = {
        "packing": "D sees packs of images, which have no codes of their own",
        "replay": "the codes of fakes that are shown again are not known",
        "uniform_latents": "its uniform codes are made of Gaussian latents",
    }
    order = 1  # after all tricks that change the whole prior

    def __init__(
        self,
        *,
        categories: Annotated[int, Ge(2)],
        continuous: Annotated[int, Ge(0)],
        weight: Annotated[float, Gt(0)],
        continuous_weight: Annotated[float, Ge(0)],
        width: Annotated[int, Ge(1)],
        noise_scale: Annotated[float, Gt(0)],
    ) -> None:
        super().__init__()
        self.categories, self.continuous, self.width, self.noise_scale = categories, continuous, width, noise_scale
        self.scale = categories**0.5  # the mean square of each number is then 1, like that of noise
        end = categories + continuous
        codes = f"sqrt({categories}) * one_hot(z[:, :{categories}].argmax(1), {categories}), erf(z[:, {categories}:{end}] / sqrt(2))"
        self.prior = f"cat([{codes}, {noise_scale:g} * z[:, {end}:]], 1), a one-hot and {continuous} uniform codes before the noise"
        self.register_buffer("weight", torch.tensor(weight))
        self.register_buffer("continuous_weight", torch.tensor(continuous_weight))
        self.weight: Tensor
        self.continuous_weight: Tensor

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse more codes than latents."""
        chosen, latent_size = config.trick.information, config.model.generator.latent_size
        if chosen.categories + chosen.continuous >= latent_size:
            raise ConfigurationError(
                f"trick=information: {chosen.categories} categories and {chosen.continuous} continuous codes leave no noise among "
                f"model.generator.latent_size={latent_size} latents; set model.generator.latent_size={chosen.categories + chosen.continuous + 16}"
            )

    def build(self, model: Model, loss: Loss) -> None:
        model.generator.recognition = Recognition(model.num_features(), self.width, self.categories, self.continuous)
        self._recognize = [model.generator.recognition]  # in a list: its parameters are G's, not the trick's

    def latents(self, latents: Tensor) -> Tensor:
        category, continuous, noise = latents.split(self._sizes(latents), 1)
        code = self.scale * one_hot(category.argmax(1), self.categories).to(latents)
        return torch.cat([code, (continuous / 2**0.5).erf(), self.noise_scale * noise], 1)

    def penalty(self, real: Side, fake: Side, judge: Judge) -> Tensor:
        return self._error(fake)

    def generator_penalty(self, real: Side | None, fake: Side, judge: Judge) -> Tensor:
        return self._error(fake)

    def code(self, latents: Tensor) -> Tensor:
        return latents[:, : self.categories].argmax(1)

    def pictures(self, draw: Draw) -> dict[str, Picture]:
        """Each row varies one code and keeps all other latents.

        Three samples, each with one row for the categorical code and one for each continuous code.
        """
        latents = draw.latents(3)
        rows = []
        for sample in latents:
            varied = sample.repeat(self.categories, 1)
            varied[:, : self.categories] = self.scale * torch.eye(self.categories, device=latents.device)
            rows.append(varied)
            for place in range(self.categories, self.categories + self.continuous):
                varied = sample.repeat(self.categories, 1)
                varied[:, place] = torch.linspace(-1, 1, self.categories, device=latents.device)
                rows.append(varied)
        return {"codes": Picture(draw.images(torch.cat(rows)), self.categories)}

    def _sizes(self, latents: Tensor) -> list[int]:
        return [self.categories, self.continuous, latents.shape[1] - self.categories - self.continuous]

    def _error(self, fake: Side) -> Tensor:
        assert fake.latents is not None
        (recognize,) = self._recognize
        category, continuous, _ = fake.latents.split(self._sizes(fake.latents), 1)
        guessed_category, guessed = recognize(fake.features.flatten(1))
        error = self.weight * cross_entropy(guessed_category, category.argmax(1))
        return error + self.continuous_weight * mse_loss(guessed, continuous) if self.continuous else error
