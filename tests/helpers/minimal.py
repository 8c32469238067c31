"""A minimal model: two linear maps.

It has no normalization, no autoencoder, and no other setting that only some tricks use.
"""

from omegaconf import DictConfig
from torch import Tensor, nn

from twoplayer.errors import ConfigurationError
from twoplayer.models.base import Model
from twoplayer.models.layers import to_logits


class Generator(nn.Module):
    """Latents (N, latent_size) to images. Its output is not the last module that it registers."""

    def __init__(self, *, latent_size: int, channels: int, image_size: int) -> None:
        super().__init__()
        self.latent_size, self.shape = latent_size, (channels, image_size, image_size)
        self.output = nn.Linear(8, channels * image_size**2)
        self.hidden = nn.Linear(latent_size, 8)

    @property
    def layout(self) -> str:
        """See `Model`."""
        return f"output(hidden(z).relu()).tanh().view(-1, {', '.join(map(str, self.shape))})"

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images in [-1, 1]."""
        images: Tensor = self.output(self.hidden(latents).relu()).tanh()
        return images.view(-1, *self.shape)


class Discriminator(nn.Module):
    """Images to logits."""

    def __init__(self, *, image_size: int, num_channels: int, num_outputs: int) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        self.hidden = nn.Linear(num_channels * image_size**2, 8)
        self.output: nn.Module = nn.Linear(8, num_outputs)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and the hidden layer."""
        features = self.hidden(images.flatten(1)).relu()
        return to_logits(self.output(features)), features


class Minimal(Model):
    """Both of them."""

    def __init__(self, generator: Generator, discriminator: Discriminator) -> None:
        super().__init__(generator, discriminator)

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse all sizes but two."""
        if config.data.image_size not in (28, 32):
            raise ConfigurationError(f"data.image_size={config.data.image_size}: model=minimal takes 28, 32; set one of them")
