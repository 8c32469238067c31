"""How a network is told the class of an image.

Labels become one-hot vectors, and every layer that reads them is an `Embedding`: a linear layer
without bias, so tricks that treat the weights of linear layers treat an embedding likewise.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from twoplayer.errors import ConfigurationError

Concatenation = Literal["none", "concatenate"]
GeneratorConditioning = Literal["none", "concatenate", "batch_norm"]
DiscriminatorConditioning = Literal["none", "concatenate", "projection"]


class Embedding(nn.Linear):
    """One row of numbers per class: one-hot labels (N, num_classes) to (N, size)."""

    def __init__(self, num_classes: int, size: int) -> None:
        super().__init__(num_classes, size, bias=False)
        nn.init.normal_(self.weight)

    def _get_name(self) -> str:
        return "Linear"  # so that the listing of an exported generator can be rebuilt from torch.nn


class ConditionalNormalization(nn.Module):
    """Batch normalization with a gain and a shift per class (de Vries et al., 2017, 1707.00683).

    `normalize` is a batch normalization without gain and shift of its own, over (N, size, ...).
    """

    def __init__(self, normalize: nn.Module, num_classes: int, size: int) -> None:
        super().__init__()
        self.normalize = normalize
        self.gain, self.shift = Embedding(num_classes, size), Embedding(num_classes, size)
        nn.init.ones_(self.gain.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, values: Tensor, classes: Tensor) -> Tensor:
        """Normalized values of the same shape; `classes` is one-hot, (N, num_classes)."""
        normalized: Tensor = self.normalize(values)
        shape = (*self.gain(classes).shape, *[1] * (values.ndim - 2))
        return normalized * self.gain(classes).view(shape) + self.shift(classes).view(shape)


class ConditionalLayers(nn.Sequential):
    """Layers in sequence, of which conditional normalizations also see the classes."""

    def forward(self, values: Tensor, classes: Tensor) -> Tensor:  # type: ignore[override]
        """`classes` is one-hot, (N, num_classes)."""
        for layer in self:
            values = layer(values, classes) if isinstance(layer, ConditionalNormalization) else layer(values)
        return values


def in_sequence(layers: Sequence[nn.Module]) -> nn.Sequential:
    """Plain layers, or conditional ones if one of them is a conditional normalization."""
    conditional = any(isinstance(layer, ConditionalNormalization) for layer in layers)
    return (ConditionalLayers if conditional else nn.Sequential)(*layers)


def sequence_layout(layers: nn.Sequential, name: str, values: str) -> str:
    """The forward pass of layers as an expression of plain torch, with one-hot classes `y`."""
    if not isinstance(layers, ConditionalLayers):
        return f"{name}({values})"
    for index, layer in enumerate(layers):
        each = f"{name}[{index}]"
        if isinstance(layer, ConditionalNormalization):
            dimensions = "" if isinstance(layer.normalize, nn.BatchNorm1d) else "[:, :, None, None]"
            values = f"({each}.normalize({values}) * {each}.gain(y){dimensions} + {each}.shift(y){dimensions})"
        else:
            values = f"{each}({values})"
    return values


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Labels (N) in int64 as float vectors (N, num_classes)."""
    return (labels[:, None] == torch.arange(num_classes, device=labels.device)).float()


class GeneratorCondition(nn.Module):
    """The first step of a conditional generator: what its layers get of latents and labels.

    `size` is the number of values that the first layer gets. With `concatenate` these are latents
    and an embedding of the class, as many numbers each (Mirza and Osindero, 2014, arXiv:1411.1784).
    With `batch_norm` the classes are for conditional normalizations.
    """

    def __init__(self, conditioning: GeneratorConditioning, num_classes: int, latent_size: int) -> None:
        super().__init__()
        self.num_classes, self.size = num_classes, latent_size
        if conditioning == "concatenate":
            self.embedding, self.size = Embedding(num_classes, latent_size), 2 * latent_size
        self.concatenates = conditioning == "concatenate"

    @property
    def layout(self) -> str:
        """The first value as an expression of plain torch, with latents `z` and classes `y`."""
        return "torch.cat([z, condition.embedding(y)], 1)" if self.concatenates else "z"

    def forward(self, latents: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """Values (N, size) for the first layer, and one-hot classes if normalizations use them."""
        classes = one_hot(labels, self.num_classes)
        return (torch.cat([latents, self.embedding(classes)], 1),) if self.concatenates else (latents, classes)


class DiscriminatorCondition(nn.Module):
    """What a discriminator does with labels.

    With `concatenate` an embedding of the class is one more channel of the images. With
    `projection` a logit grows by the inner product of the features (N, num_features) with an
    embedding of the class (Miyato and Koyama, 2018, arXiv:1802.05637).
    """

    def __init__(self, conditioning: DiscriminatorConditioning, num_classes: int, image_size: int, num_features: int) -> None:
        super().__init__()
        self.conditioning, self.num_classes = conditioning, num_classes
        if conditioning != "none":
            size = image_size**2 if conditioning == "concatenate" else num_features
            self.embedding = Embedding(num_classes, size)
        if conditioning == "projection":
            nn.init.normal_(self.embedding.weight, std=num_features**-0.5)

    def images(self, images: Tensor, labels: Tensor) -> Tensor:
        """The images (N, C, H, W), with one more channel where that is the way."""
        if self.conditioning != "concatenate":
            return images
        plane = self.embedding(one_hot(labels, self.num_classes)).view(len(images), 1, *images.shape[2:])
        return torch.cat([images, plane.to(images.dtype)], 1)

    def logits(self, logits: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        """Logits (N) that depend on the class where that is the way; features are (N, F)."""
        if self.conditioning != "projection":
            return logits
        return logits + (self.embedding(one_hot(labels, self.num_classes)) * features).sum(1)


def normalization_per_class(num_classes: int, size: int, vectors: bool) -> nn.Module:
    """A conditional normalization of vectors (N, size), or of feature maps (N, size, H, W)."""
    kind = nn.BatchNorm1d if vectors else nn.BatchNorm2d
    return ConditionalNormalization(kind(size, affine=False), num_classes, size)


def is_conditional(config: DictConfig, player: str) -> bool:
    """Whether a configured player ("generator", "discriminator") is told the classes."""
    return str(OmegaConf.select(config, f"model.{player}.conditioning", default="none")) != "none"


def refuse_conditioning(config: DictConfig) -> None:
    """Refuse ways of telling the classes that a model cannot take.

    Raises ConfigurationError.
    """
    generator, discriminator = config.model.generator, OmegaConf.select(config, "model.discriminator")
    told = OmegaConf.select(config, "model.discriminator.conditioning", default="none")
    if generator.conditioning == "batch_norm" and generator.normalization != "batch":
        raise ConfigurationError(
            f"model.generator.conditioning=batch_norm: it needs model.generator.normalization=batch, not {generator.normalization}"
        )
    if told == "projection" and OmegaConf.select(config, "model.discriminator.autoencoder"):
        raise ConfigurationError(
            "model.discriminator.conditioning=projection: an autoencoder has no logit to project on; set model.discriminator.conditioning=concatenate"
        )
    if told == "projection" and discriminator.num_outputs > 1:
        raise ConfigurationError(
            f"model.discriminator.conditioning=projection: it changes one logit, but model.discriminator.num_outputs={discriminator.num_outputs}; "
            "set model.discriminator.conditioning=concatenate"
        )
    if told != "none" and not is_conditional(config, "generator"):
        raise ConfigurationError(
            f"model.discriminator.conditioning={told}: D compares image and class, so G has to know the class; "
            "set model.generator.conditioning=concatenate"
        )
