"""Models whose latents are a category and other numbers, with an encoder that finds both."""

from collections.abc import Callable
from typing import Annotated, Any, cast

import torch
from annotated_types import Ge, Gt
from omegaconf import DictConfig
from torch import Tensor
from torch.nn.functional import one_hot

from twoplayer.errors import ConfigurationError
from twoplayer.models import encoding
from twoplayer.models.base import Batch, Picture

STYLES = 8
"""Images whose style is shown in every category."""


class Generator(encoding.Generator):
    """The largest of the first `categories` latents becomes the category; the rest is the style.

    The style is multiplied by `style_scale`, so that images vary less within a category than
    between them.
    """

    def __init__(self, *, categories: Annotated[int, Ge(2)], style_scale: Annotated[float, Gt(0)], **settings: Any) -> None:
        super().__init__(**settings)
        self.categories, self.style_scale = categories, style_scale

    @property
    def layout(self) -> str:
        """See `Model`."""
        num = self.categories
        codes = f"torch.nn.functional.one_hot(z[:, :{num}].argmax(1), {num}).to(z.dtype)"
        prior = f"torch.cat([{codes}, {self.style_scale:g} * z[:, {num}:]], 1)"
        return super().layout.replace("(z)", f"({prior})")

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images in [-1, 1]."""
        return self.images(self.prior(latents), labels)

    def prior(self, latents: Tensor) -> Tensor:
        """Normal latents as codes of the same shape."""
        categories = one_hot(latents[:, : self.categories].argmax(1), self.categories).to(latents.dtype)
        return torch.cat([categories, self.style_scale * latents[:, self.categories :]], 1)

    def images(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Images in [-1, 1] of codes."""
        return super().forward(codes, labels)


class Categories(encoding.Encoding):
    """The base class of families whose encoder's first numbers are the logits of categories."""

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse what all models with an encoder refuse, and more categories than latents."""
        encoding.Encoding.refuse(config)
        generator = config.model.generator
        if generator.categories >= generator.latent_size:
            raise ConfigurationError(
                f"model.generator.categories={generator.categories}: of {generator.latent_size} latents none is left for the style; "
                f"set model.generator.latent_size={generator.categories + 1} or more"
            )

    @property
    def num_categories(self) -> int:
        """The number of categories."""
        return cast(Generator, self.generator).categories

    def prior(self, latents: Tensor) -> Tensor:
        """Latents as the codes from which the generator draws."""
        return cast(Generator, self.generator).prior(latents)

    def found(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The logits (N, categories) of the categories of images, and their styles (N, S)."""
        codes = self.encoder(images)
        return codes[:, : self.num_categories], codes[:, self.num_categories :]

    def encode(self, images: Tensor, labels: Tensor) -> Tensor:
        """The codes (N, latent_size) of images: probabilities of categories, and the style."""
        logits, style = self.found(images)
        return torch.cat([logits.softmax(1), style], 1)

    def decode(self, codes: Tensor, labels: Tensor) -> Tensor:
        """The images of codes."""
        return cast(Generator, self.generator).images(codes, labels)

    def clusters(self, images: Tensor, labels: Tensor) -> Tensor:
        """The most probable categories (N) of images."""
        return self.found(images)[0].argmax(1)

    def code(self, latents: Tensor) -> Tensor:
        """The categories (N) in latents."""
        return latents[:, : self.num_categories].argmax(1)

    def pictures(self, batch: Batch, view: Callable[[Tensor], Tensor]) -> dict[str, Picture]:
        """Also `styles`: in each row a real image, and its style in every category."""
        images, labels = (part[:STYLES] for part in batch[:2])
        num, categories = len(images), self.num_categories
        _, style = self.found(images)
        codes = torch.cat([torch.eye(categories, device=style.device).repeat(num, 1), style.repeat_interleave(categories, 0)], 1)
        drawn = self.decode(codes, labels.repeat_interleave(categories)).float().unflatten(0, (num, categories))
        rows = torch.cat([images[:, None], drawn], 1).flatten(0, 1)
        return {**super().pictures(batch, view), "styles": Picture(rows, categories + 1)}
