"""Networks from image to image: a U-Net, and a discriminator that sees both."""

from typing import cast

import torch
from torch import Tensor, nn

from twoplayer.models import dcgan
from twoplayer.models.base import Example
from twoplayer.models.layers import Activation, Normalization, OutputActivation, activation, images_of, normalization, to_images, to_logits
from twoplayer.models.resolutions import resolutions


class Generator(nn.Module):
    """Source images and latents to images, by a U-Net (Ronneberger et al., 2015, arXiv:1505.04597).

    Each stage on the way down halves the resolution, to 4 x 4 (7 x 7 for images of 28), and doubles
    the channels, starting with `width`. The latents are added at the bottom. On the way up, each
    stage also gets the feature maps of its resolution from the way down.
    """

    def __init__(
        self,
        *,
        latent_size: dcgan.Size,
        width: dcgan.Size,
        channels: dcgan.Size,
        source_channels: dcgan.Size,
        image_size: int,
        activation: Activation,
        normalization: Normalization,
        output_activation: OutputActivation,
    ) -> None:
        super().__init__()
        self.latent_size, self.output_activation = latent_size, output_activation
        self.num_stages = len(resolutions(image_size)) - 1
        bias = normalization == "none"
        self.input = nn.Conv2d(source_channels, width, 3, 1, 1)
        widths = [width * 2**stage for stage in range(self.num_stages + 1)]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for stage in range(self.num_stages):
            layers = [
                nn.Conv2d(widths[stage], widths[stage + 1], 4, 2, 1, bias=bias),
                *_normalized(widths[stage + 1], normalization, "leaky_relu"),
            ]
            self.down.append(nn.Sequential(*layers))
        self.latents = nn.Linear(latent_size, widths[-1])
        for stage in reversed(range(self.num_stages)):
            inputs = widths[stage + 1] * (1 if stage == self.num_stages - 1 else 2)
            layers = [nn.ConvTranspose2d(inputs, widths[stage], 4, 2, 1, bias=bias), *_normalized(widths[stage], normalization, activation)]
            self.up.append(nn.Sequential(*layers))
        self.output = nn.Conv2d(2 * width, channels, 3, 1, 1)

    @property
    def layout(self) -> str:
        """See `Model`; sources are `y`."""
        maps = "(m0 := input(y))"
        for stage in range(self.num_stages):
            maps = f"(m{stage + 1} := down[{stage}]({maps}))"
        maps = f"{maps} + latents(z)[:, :, None, None]"
        for stage in range(self.num_stages):
            maps = f"torch.cat([up[{stage}]({maps}), m{self.num_stages - 1 - stage}], 1)"
        return images_of(f"output({maps})", self.output_activation)

    def forward(self, latents: Tensor, sources: Tensor) -> Tensor:
        """Images in [-1, 1] of sources (N, source_channels, image_size, image_size)."""
        levels = [self.input(sources)]
        for down in self.down:
            levels.append(down(levels[-1]))
        maps = levels.pop() + self.latents(latents)[:, :, None, None]
        for up in self.up:
            maps = torch.cat([up(maps), levels.pop()], 1)
        return to_images(self.output(maps), self.output_activation)


class Discriminator(nn.Module):
    """Images, beside their sources or not, to logits, with the convolutions of a DCGAN's."""

    def __init__(
        self,
        *,
        width: dcgan.Size,
        channels: dcgan.Size,
        source_channels: dcgan.Size,
        sees_source: bool,
        image_size: int,
        normalization: Normalization,
        num_outputs: dcgan.Size,
    ) -> None:
        super().__init__()
        self.num_outputs, self.sees_source = num_outputs, sees_source
        inputs = channels + (source_channels if sees_source else 0)
        self.convolutions, num_features = dcgan.halving(inputs, width, image_size, normalization, "strided")
        self.output: nn.Module = nn.Linear(num_features, num_outputs)

    def forward(self, images: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and features: the last feature maps, flattened."""
        seen = torch.cat([images, sources.to(images.dtype)], 1) if self.sees_source else images
        features = cast(Tensor, self.convolutions(seen))
        return to_logits(self.output(features)), features


def in_turn(targets: Tensor, sources: Tensor) -> Example:
    """Images of both domains in turn, and their domains: 0 for targets, 1 for sources."""
    domains = torch.arange(2, device=targets.device).repeat(len(targets))
    return Example(torch.stack([targets, sources], 1).flatten(0, 1), domains, None)


def _normalized(maps: int, normalization_name: Normalization, activation_name: Activation) -> list[nn.Module]:
    return [normalization(normalization_name, maps), activation(activation_name)]
