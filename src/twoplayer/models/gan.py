"""Fully connected players, after the first GAN (Goodfellow et al., 2014, arXiv:1406.2661)."""

from itertools import pairwise
from typing import Annotated

from annotated_types import Ge, Lt, MinLen
from omegaconf import DictConfig
from torch import Tensor, nn

from twoplayer.models.base import Model
from twoplayer.models.conditioning import (
    DiscriminatorCondition,
    DiscriminatorConditioning,
    GeneratorCondition,
    GeneratorConditioning,
    in_sequence,
    normalization_per_class,
    refuse_conditioning,
    sequence_layout,
)
from twoplayer.models.layers import (
    Activation,
    Decoder,
    OutputActivation,
    VectorNormalization,
    activation,
    images_of,
    to_images,
    to_logits,
    vector_normalization,
)

Size = Annotated[int, Ge(1)]
Widths = Annotated[list[Size], MinLen(1)]


class Generator(nn.Module):
    """Latents (N, latent_size) to images (N, channels, image_size, image_size).

    `widths` are the sizes of the hidden layers.
    """

    def __init__(
        self,
        *,
        latent_size: Size,
        widths: Widths,
        channels: Size,
        image_size: Size,
        activation: Activation,
        normalization: VectorNormalization,
        output_activation: OutputActivation,
        conditioning: GeneratorConditioning,
        num_classes: Size,
    ) -> None:
        super().__init__()
        self.latent_size, self.output_activation = latent_size, output_activation
        self.condition = None if conditioning == "none" else GeneratorCondition(conditioning, num_classes, latent_size)
        inputs = self.condition.size if self.condition else latent_size
        per_class = num_classes if conditioning == "batch_norm" else None
        self.hidden = _hidden([inputs, *widths], activation, normalization, 0.0, per_class)
        self.output = nn.Linear(widths[-1], channels * image_size**2)
        self.shape = (channels, image_size, image_size)

    @property
    def layout(self) -> str:
        """See `Model`."""
        return (
            images_of(
                f"output({sequence_layout(self.hidden, 'hidden', self.condition.layout if self.condition else 'z')})",
                self.output_activation,
            )
            + f".view(-1, {', '.join(map(str, self.shape))})"
        )

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images in [-1, 1]."""
        return to_images(
            self.output(self.hidden(*(self.condition(latents, labels) if self.condition else (latents,)))), self.output_activation
        ).view(-1, *self.shape)


class Discriminator(nn.Module):
    """Flattened images to logits, through hidden layers with LeakyReLU and dropout.

    An autoencoder continues to a code of `code_size` numbers and back through the same widths; its
    logit is the negative energy.
    """

    def __init__(
        self,
        *,
        widths: Widths,
        channels: Size,
        packs: Size,
        image_size: Size,
        normalization: VectorNormalization,
        dropout: Annotated[float, Ge(0), Lt(1)],
        autoencoder: bool,
        code_size: Size,
        num_outputs: Size,
        conditioning: DiscriminatorConditioning,
        num_classes: Size,
    ) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        inputs = packs * channels + (conditioning == "concatenate")
        self.hidden = _hidden([inputs * image_size**2, *widths], "leaky_relu", normalization, dropout)
        self.output: nn.Module = nn.Linear(widths[-1], num_outputs)
        self.condition = DiscriminatorCondition(conditioning, num_classes, image_size, widths[-1])
        if autoencoder:
            decoder = Generator(
                latent_size=code_size,
                widths=widths[::-1],
                channels=packs * channels,
                image_size=image_size,
                activation="leaky_relu",
                normalization=normalization,
                output_activation="tanh",
                conditioning="none",
                num_classes=num_classes,
            )
            self.output = Decoder(nn.Linear(widths[-1], code_size), decoder)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and features: the last hidden layer.

        An autoencoder's features are its code.
        """
        features = self.hidden(self.condition.images(images, labels).flatten(1))
        if isinstance(self.output, Decoder):
            return self.output(images, features)
        return self.condition.logits(to_logits(self.output(features)), features, labels), features


class GAN(Model):
    """Fully connected players."""

    def __init__(self, generator: Generator, discriminator: Discriminator) -> None:
        super().__init__(generator, discriminator)

    @staticmethod
    def refuse(config: DictConfig) -> None:
        refuse_conditioning(config)


def _hidden(
    sizes: list[int], activation_name: Activation, normalization_name: VectorNormalization, dropout: float, per_class: int | None = None
) -> nn.Sequential:
    """Hidden layers; `per_class` is the number of classes if normalization depends on them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [
            nn.Linear(inputs, outputs),
            normalization_per_class(per_class, outputs, vectors=True) if per_class else vector_normalization(normalization_name, outputs),
            activation(activation_name, in_place=True),
        ]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return in_sequence(layers)
