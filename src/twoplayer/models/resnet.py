"""The residual networks of SNGAN (Miyato et al., 2018, arXiv:1802.05957).

Self-attention can be added, as in SAGAN (Zhang et al., 2019, arXiv:1805.08318). D has no
normalization by default: trick=spectral_norm adds that of both papers.
"""

import math
from typing import Annotated

from annotated_types import Ge
from omegaconf import DictConfig
from torch import Tensor, nn

from twoplayer.errors import ConfigurationError
from twoplayer.models.base import Model
from twoplayer.models.conditioning import (
    Concatenation,
    DiscriminatorCondition,
    DiscriminatorConditioning,
    GeneratorCondition,
    refuse_conditioning,
)
from twoplayer.models.layers import Normalization, OutputActivation, images_of, normalization, to_images, to_logits
from twoplayer.models.residual import SelfAttention, residual_block, steps, through, width_at
from twoplayer.models.resolutions import refuse_image_size, resolutions

Size = Annotated[int, Ge(1)]


class Generator(nn.Module):
    """Latents (N, latent_size) to images (N, channels, image_size, image_size).

    It starts at 4 x 4 (7 x 7 for images of 28), and each block doubles the resolution.
    """

    def __init__(
        self,
        *,
        latent_size: Size,
        width: Size,
        max_width: Size,
        channels: Size,
        image_size: int,
        attention: Size | None,
        normalization: Normalization,
        output_activation: OutputActivation,
        conditioning: Concatenation,
        num_classes: Size,
    ) -> None:
        super().__init__()
        self.latent_size, self.output_activation = latent_size, output_activation
        self.condition = None if conditioning == "none" else GeneratorCondition(conditioning, num_classes, latent_size)
        self.start, *sizes = resolutions(image_size)
        maps = width_at(width, max_width, image_size, self.start)
        self.projection = _initialized(nn.Linear(self.condition.size if self.condition else latent_size, maps * self.start**2))
        blocks: list[nn.Module] = []
        for size in sizes:
            outputs = width_at(width, max_width, image_size, size)
            blocks.append(_up(maps, outputs, normalization))
            if size == attention:
                blocks.append(SelfAttention(outputs))
            maps = outputs
        self.blocks = nn.ModuleList([*blocks, nn.Sequential(*_normalized(maps, normalization))])
        self.output = _initialized(nn.Conv2d(maps, channels, 3, 1, 1))

    @property
    def layout(self) -> str:
        """See `Model`."""
        values = self.condition.layout if self.condition else "z"
        start = f"projection({values}).unflatten(1, ({self.start}, {self.start}, -1)).permute(0, 3, 1, 2)"
        return steps("blocks", self.blocks, start, images_of("output(h)", self.output_activation))

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images in [-1, 1]."""
        # Channels come last in memory, the order in which convolutions are fastest.
        values, *_ = self.condition(latents, labels) if self.condition else (latents,)
        maps = self.projection(values).unflatten(1, (self.start, self.start, -1)).permute(0, 3, 1, 2)
        return to_images(self.output(through(self.blocks, maps)), self.output_activation)


class Discriminator(nn.Module):
    """Images to logits.

    Each block halves the resolution, down to 8 x 8 (7 x 7 for images of 28), where two blocks more
    follow. The features are sums over all pixels.
    """

    def __init__(
        self,
        *,
        width: Size,
        max_width: Size,
        channels: Size,
        packs: Size,
        image_size: int,
        attention: Size | None,
        normalization: Normalization,
        num_outputs: Size,
        conditioning: DiscriminatorConditioning,
        num_classes: Size,
    ) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        blocks: list[nn.Module] = []
        inputs = packs * channels + (conditioning == "concatenate")
        for size in discriminator_sizes(image_size):
            maps = width_at(width, max_width, image_size, 2 * size)
            blocks.append(_down(inputs, maps, normalization) if blocks else _first_down(inputs, maps))
            if size == attention:
                blocks.append(SelfAttention(maps))
            inputs = maps
        blocks += [residual_block([], _residual(inputs, inputs, normalization)) for _ in range(2)]
        self.blocks = nn.ModuleList([*blocks, nn.Sequential(*_normalized(inputs, normalization))])
        self.condition = DiscriminatorCondition(conditioning, num_classes, image_size, inputs)
        # A sum over pixels is large. At full gain, the first logits leave hinge no gradient.
        self.output = _initialized(nn.Linear(inputs, num_outputs), 1 / discriminator_sizes(image_size)[-1])

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and features (N, channels of the last block)."""
        features = through(self.blocks, self.condition.images(images, labels)).sum((2, 3))
        return self.condition.logits(to_logits(self.output(features)), features, labels), features


class ResNet(Model):
    """Residual players whose depth follows from the image size."""

    def __init__(self, generator: Generator, discriminator: Discriminator) -> None:
        super().__init__(generator, discriminator)

    @staticmethod
    def refuse(config: DictConfig) -> None:
        size = config.data.image_size
        refuse_image_size(config)
        refuse_conditioning(config)
        for player, sizes in (("generator", resolutions(size)[1:]), ("discriminator", discriminator_sizes(size))):
            attention = config.model[player].attention
            if attention is not None and attention not in sizes:
                raise ConfigurationError(
                    f"model.{player}.attention={attention}: for images of {size} its blocks end at {', '.join(map(str, sizes))}; "
                    "set one of them, or null"
                )


def discriminator_sizes(image_size: int) -> list[int]:
    """The resolutions behind each of the discriminator's halving blocks."""
    return [size for size in (image_size // 2**stage for stage in range(1, 6)) if size >= 7]


def _initialized(layer: nn.Linear | nn.Conv2d, gain: float = 1.0) -> nn.Module:
    """The layer with Glorot's initial weights, as in the paper's code."""
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _conv3(inputs: int, outputs: int) -> nn.Module:
    return _initialized(nn.Conv2d(inputs, outputs, 3, 1, 1), math.sqrt(2))


def _conv1(inputs: int, outputs: int) -> nn.Module:
    return _initialized(nn.Conv2d(inputs, outputs, 1))


def _normalized(maps: int, name: Normalization) -> list[nn.Module]:
    """The first layers of a block. Without normalization, ReLU must not overwrite their input."""
    return [normalization(name, maps), nn.ReLU(inplace=name != "none")]


def _residual(inputs: int, outputs: int, name: Normalization) -> list[nn.Module]:
    return [*_normalized(inputs, name), _conv3(inputs, outputs), *_normalized(outputs, name), _conv3(outputs, outputs)]


def _up(inputs: int, outputs: int, name: Normalization) -> nn.ModuleDict:
    """A convolution of one pixel gives the same before upsampling as behind it, and costs less."""
    before, *layers = _residual(inputs, outputs, name)
    return residual_block(
        [_conv1(inputs, outputs), nn.Upsample(scale_factor=2)], [before, layers[0], nn.Upsample(scale_factor=2), *layers[1:]]
    )


def _down(inputs: int, outputs: int, name: Normalization) -> nn.ModuleDict:
    return residual_block([nn.AvgPool2d(2), _conv1(inputs, outputs)], [*_residual(inputs, outputs, name), nn.AvgPool2d(2)])


def _first_down(inputs: int, outputs: int) -> nn.ModuleDict:
    """The first block has no activation before its first layer, which sees the image itself."""
    residual = [_conv3(inputs, outputs), nn.ReLU(inplace=True), _conv3(outputs, outputs), nn.AvgPool2d(2)]
    return residual_block([nn.AvgPool2d(2), _conv1(inputs, outputs)], residual)
