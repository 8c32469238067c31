"""VQ-VAE (van den Oord, Vinyals and Kavukcuoglu, 2017, arXiv:1711.00937).

The code of an image is a plane of numbers of vectors from a codebook, and its prior is a small
PixelCNN. In the paper the prior is trained afterwards; here it is trained beside the rest, which
does not feel it.
"""

from typing import Annotated, cast

import torch
from annotated_types import Ge, Gt
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from twoplayer.models.autoregressive import Autoregressive, Size, uniform
from twoplayer.models.base import Batch, Example, Hide, Judge, Side
from twoplayer.models.encoding import Encoding
from twoplayer.models.layers import to_images
from twoplayer.models.resolutions import refuse_image_size


class Generator(nn.Module):
    """Latents, one per place of the code, to images (N, channels, image_size, image_size).

    The plane of codes has a quarter of the size of an image: 7 x 7 for images of 28. Latents are
    the chances by which the prior draws the code.
    """

    beside = ("encoder", "prior")

    layout = None
    """It is no expression of plain layers."""

    def __init__(
        self,
        *,
        width: Size,
        codebook_size: Annotated[int, Ge(2)],
        code_width: Size,
        prior_width: Size,
        prior_blocks: Size,
        channels: Size,
        image_size: Size,
    ) -> None:
        super().__init__()
        self.size = image_size // 4
        self.latent_size = self.size**2
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 4, 2, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Conv2d(2 * width, code_width, 3, 1, 1),
            nn.BatchNorm2d(code_width, affine=False),  # codes of the size of the vectors
        )
        self.codebook = nn.Parameter(torch.randn(codebook_size, code_width))
        self.prior = Autoregressive(
            inputs=codebook_size, categories=codebook_size, size=self.size, width=prior_width, dilations=[1] * prior_blocks
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(code_width, 2 * width, 3, 1, 1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, 4, 2, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.output = nn.Conv2d(width, channels, 3, 1, 1)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images in [-1, 1] of codes that the prior draws."""
        chances = uniform(latents).view(-1, self.size, self.size)
        values = torch.eye(len(self.codebook), device=latents.device)
        return self.images(self.vectors(self.prior.draw(chances, values)))

    def nearest(self, maps: Tensor) -> Tensor:
        """The numbers (N, H, W) of the vectors nearest to encoded maps (N, code_width, H, W)."""
        places = maps.movedim(1, -1)
        return torch.cdist(places.flatten(0, 2), self.codebook).argmin(1).view(places.shape[:-1])

    def vectors(self, numbers: Tensor) -> Tensor:
        """Numbers (N, H, W) to their vectors, (N, code_width, H, W)."""
        return self.codebook[numbers].movedim(-1, 1)

    def images(self, vectors: Tensor) -> Tensor:
        """Images in [-1, 1] of vectors (N, code_width, H, W)."""
        return to_images(self.output(self.decoder(vectors)), "tanh")


class VQVAE(Encoding):
    """An autoencoder of discrete codes, and their prior.

    `commitment` is the weight by which codes are pulled to the vectors that stand for them.
    """

    restores = True
    lacks = {
        "a discriminator": "model=vq_vae has none",
        "latents": "model=vq_vae's fakes are reconstructions",
        "a prior": "model=vq_vae learns its own",
    }

    def __init__(self, generator: Generator, *, commitment: Annotated[float, Gt(0)]) -> None:
        super().__init__(generator, None)
        self.commitment = commitment

    @staticmethod
    def refuse(config: DictConfig) -> None:
        refuse_image_size(config)

    def encode(self, images: Tensor, labels: Tensor) -> Tensor:
        """The vectors of the code, (N, latent_size * code_width)."""
        return self._vectors(images).flatten(1)

    def decode(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Images of vectors, also of those between the codebook's."""
        network = cast(Generator, self.generator)
        return network.images(codes.unflatten(1, (-1, network.size, network.size)))

    def fake(self, batch: Batch, latents: Tensor) -> Example:
        """Reconstructions, whose gradients reach the encoder as if codes were not rounded."""
        network, (images, labels) = cast(Generator, self.generator), batch[:2]
        maps = network.encoder(images).float()
        vectors = network.vectors(network.nearest(maps))
        return Example(network.images(maps + (vectors - maps).detach()), labels, None, maps)

    def generator_costs(self, batch: Batch, real: Side | None, fake: Side, judge: Judge, hide: Hide) -> dict[str, Tensor]:
        """The distance between vectors and codes, from both ends, and the prior's cross-entropy."""
        assert fake.own is not None
        network, maps = cast(Generator, self.generator), fake.own
        numbers = network.nearest(maps)
        vectors = network.vectors(numbers)
        logits = network.prior(one_hot(numbers, len(network.codebook)).movedim(-1, 1).float())
        return {
            "codebook": (vectors - maps.detach()).square().sum(1).mean(),
            "commitment": self.commitment * (maps - vectors.detach()).square().sum(1).mean(),
            "prior": cross_entropy(logits.float(), numbers),
        }

    def _vectors(self, images: Tensor) -> Tensor:
        network = cast(Generator, self.generator)
        return network.vectors(network.nearest(network.encoder(images).float()))
