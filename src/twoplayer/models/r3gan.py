"""R3GAN (Huang et al., 2024, arXiv:2501.05441): residual networks without normalization.

A block expands its channels by a 1 x 1 convolution, has a grouped 3 x 3 one, and shrinks them
again. Fix-up initialization (Zhang et al., 2019, arXiv:1901.09321) takes the place of
normalization. D averages four pixels where the paper has a filter of nine.
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
from twoplayer.models.layers import to_logits
from twoplayer.models.residual import residual_block, steps, through, width_at
from twoplayer.models.resolutions import refuse_image_size, resolutions

Size = Annotated[int, Ge(1)]

SLOPE = 0.2
GAIN = math.sqrt(2 / (1 + SLOPE**2))
"""Of the standard deviation of weights, which keeps that of activations behind a LeakyReLU."""


class Generator(nn.Module):
    """Latents (N, latent_size) to images (N, channels, image_size, image_size).

    It starts with a learned basis of 4 x 4 pixels (7 x 7 for images of 28), one for each channel,
    and doubles the resolution behind each stage of `num_blocks` blocks.

    As in the paper, nothing bounds the output in training: without normalization, tanh saturates
    within the first iterations, and passes no gradient from then on. Samples are clamped.
    """

    def __init__(
        self,
        *,
        latent_size: Size,
        width: Size,
        max_width: Size,
        num_blocks: Size,
        expansion: Size,
        group_size: Size,
        channels: Size,
        image_size: int,
        conditioning: Concatenation,
        num_classes: Size,
    ) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.condition = None if conditioning == "none" else GeneratorCondition(conditioning, num_classes, latent_size)
        first, *sizes = resolutions(image_size)
        maps = width_at(width, max_width, image_size, first)
        num_all = num_blocks * (1 + len(sizes))
        self.projection = _initialized(nn.Linear(self.condition.size if self.condition else latent_size, maps, bias=False))
        # A depthwise transposed convolution of one pixel multiplies each channel by its basis.
        self.basis = nn.ConvTranspose2d(maps, maps, first, groups=maps, bias=False)
        nn.init.normal_(self.basis.weight)
        blocks: list[nn.Module] = []
        for size in (first, *sizes):
            outputs = width_at(width, max_width, image_size, size)
            if size != first:
                blocks.append(nn.Sequential(*_change(maps, outputs), nn.Upsample(scale_factor=2, mode="bilinear")))
            blocks += [_block(outputs, expansion, group_size, num_all) for _ in range(num_blocks)]
            maps = outputs
        self.blocks = nn.ModuleList(blocks)
        self.output = _initialized(nn.Conv2d(maps, channels, 1, bias=False))

    @property
    def layout(self) -> str:
        """See `Model`."""
        start = f"basis(projection({self.condition.layout if self.condition else 'z'})[:, :, None, None])"
        return steps("blocks", self.blocks, start, "output(h).clamp(-1, 1)")

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images, in [-1, 1] in evaluation mode."""
        values, *_ = self.condition(latents, labels) if self.condition else (latents,)
        maps = through(self.blocks, self.basis(self.projection(values)[:, :, None, None]))
        images: Tensor = self.output(maps)
        return images if self.training else images.clamp(-1, 1)


class Discriminator(nn.Module):
    """Images to logits: the generator in reverse.

    Each channel of 4 x 4 pixels (7 x 7 for images of 28) becomes one feature, by its inner product
    with a learned basis.
    """

    def __init__(
        self,
        *,
        width: Size,
        max_width: Size,
        num_blocks: Size,
        expansion: Size,
        group_size: Size,
        channels: Size,
        packs: Size,
        image_size: int,
        num_outputs: Size,
        conditioning: DiscriminatorConditioning,
        num_classes: Size,
    ) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        last, *sizes = resolutions(image_size)
        num_all = num_blocks * (1 + len(sizes))
        blocks: list[nn.Module] = []
        maps = packs * channels + (conditioning == "concatenate")
        for size in (*sizes[::-1], last):
            outputs = width_at(width, max_width, image_size, size)
            if blocks:
                blocks.append(nn.Sequential(nn.AvgPool2d(2), *_change(maps, outputs)))
            else:
                blocks.append(_initialized(nn.Conv2d(maps, outputs, 1, bias=False)))
            blocks += [_block(outputs, expansion, group_size, num_all) for _ in range(num_blocks)]
            maps = outputs
        basis = _initialized(nn.Conv2d(maps, maps, last, groups=maps, bias=False))
        self.blocks = nn.ModuleList([*blocks, basis, nn.Flatten()])
        self.output = _initialized(nn.Linear(maps, num_outputs, bias=False))
        self.condition = DiscriminatorCondition(conditioning, num_classes, image_size, maps)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and features (N, channels of the last stage)."""
        features = through(self.blocks, self.condition.images(images, labels))
        return self.condition.logits(to_logits(self.output(features)), features, labels), features


class R3GAN(Model):
    """Residual players without normalization, whose depth follows from the image size."""

    def __init__(self, generator: Generator, discriminator: Discriminator) -> None:
        super().__init__(generator, discriminator)

    @staticmethod
    def refuse(config: DictConfig) -> None:
        size = config.data.image_size
        refuse_image_size(config)
        for player in ("generator", "discriminator"):
            node = config.model[player]
            for each in resolutions(size):
                expanded = node.expansion * width_at(node.width, node.max_width, size, each)
                if expanded % node.group_size:
                    raise ConfigurationError(
                        f"model.{player}.group_size={node.group_size}: {expanded} channels do not divide into such groups; "
                        f"set model.{player}.width and model.{player}.max_width to multiples of {node.group_size}"
                    )
        refuse_conditioning(config)
        if "spectral_norm" in config.trick:
            raise ConfigurationError(
                "trick=spectral_norm: model=r3gan starts with weights of 0, which have no norm to divide by; leave it out"
            )


def _initialized(layer: nn.Linear | nn.Conv2d, gain: float = 1.0) -> nn.Module:
    """The layer with normal weights; its outputs vary `gain` times as much as its inputs."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _change(inputs: int, outputs: int) -> list[nn.Module]:
    """A change of the number of channels, if there is one."""
    return [_initialized(nn.Conv2d(inputs, outputs, 1, bias=False))] if inputs != outputs else []


def _block(maps: int, expansion: int, group_size: int, num_blocks: int) -> nn.ModuleDict:
    """A block of three layers.

    By fix-up, the last one starts at 0, and the first weights shrink with the number of blocks.
    """
    expanded, gain = expansion * maps, GAIN * num_blocks**-0.25
    residual = [
        _initialized(nn.Conv2d(maps, expanded, 1), gain),
        nn.LeakyReLU(SLOPE, inplace=True),
        _initialized(nn.Conv2d(expanded, expanded, 3, 1, 1, groups=expanded // group_size), gain),
        nn.LeakyReLU(SLOPE, inplace=True),
        _initialized(nn.Conv2d(expanded, maps, 1, bias=False), 0.0),
    ]
    return residual_block([], residual)
