"""Fully connected players for data of any shape (N, ...): points, vectors, images."""

import math
from typing import Annotated, Literal

from annotated_types import Ge, MinLen
from torch import Tensor, nn

from twoplayer.models.base import Model
from twoplayer.models.layers import (
    Activation,
    OutputActivation,
    VectorNormalization,
    fully_connected,
    images_of,
    to_images,
    to_logits,
)

Size = Annotated[int, Ge(1)]
Sizes = Annotated[list[Size], MinLen(1)]


class Generator(nn.Module):
    """Latents (N, latent_size) to data (N, *shape).

    `widths` are the sizes of the hidden layers; without any, the player is linear.
    """

    def __init__(
        self,
        *,
        latent_size: Size,
        widths: list[Size],
        shape: Sizes,
        activation: Activation,
        normalization: VectorNormalization,
        output_activation: OutputActivation | Literal["none"],
    ) -> None:
        super().__init__()
        self.latent_size, self.shape, self.output_activation = latent_size, tuple(shape), output_activation
        self.hidden = fully_connected([latent_size, *widths], activation, normalization)
        self.output = nn.Linear([latent_size, *widths][-1], math.prod(shape))

    @property
    def layout(self) -> str:
        """See `Model`."""
        outputs = "output(hidden(z))"
        values = outputs if self.output_activation == "none" else images_of(outputs, self.output_activation)
        return f"{values}.view(-1, {', '.join(map(str, self.shape))})"

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Data in [-1, 1], or unbounded if there is no output activation."""
        outputs = self.output(self.hidden(latents))
        values = outputs if self.output_activation == "none" else to_images(outputs, self.output_activation)
        return values.view(-1, *self.shape)


class Discriminator(nn.Module):
    """Flattened data to logits."""

    def __init__(
        self,
        *,
        widths: list[Size],
        shape: Sizes,
        packs: Size,
        activation: Activation,
        normalization: VectorNormalization,
        num_outputs: Size,
    ) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        sizes = [packs * math.prod(shape), *widths]
        self.hidden = fully_connected(sizes, activation, normalization)
        self.output = nn.Linear(sizes[-1], num_outputs)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and features: the last hidden layer."""
        features = self.hidden(images.flatten(1))
        return to_logits(self.output(features)), features


class MLP(Model):
    """Fully connected players."""

    def __init__(self, generator: Generator, discriminator: Discriminator) -> None:
        super().__init__(generator, discriminator)
