"""The families of networks: what both players are made of, and what each side shows for judgement."""

from typing import NamedTuple, cast

from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]
"""Real images (N, C, H, W) in [-1, 1], or points of any shape (N, ...), and their labels (N)."""


class Example(NamedTuple):
    """What one side offers for judgement. The latents of a fake are those it came from; those of a real image are None,
    except in a family that judges pairs, which shows the partner there.
    """

    images: Tensor
    labels: Tensor
    latents: Tensor | None


class Side(NamedTuple):
    """One side of a round: an example as it was before `view`, and what the discriminator said of it."""

    images: Tensor
    labels: Tensor
    latents: Tensor | None
    logits: Tensor
    features: Tensor


class Model(nn.Module):
    """A family of networks. Players are sets of modules: all that lies below `generator` is the generator's (an encoder, a
    second generator, InfoGAN's Q, too), all below `discriminator` the discriminator's.

    A generator is called as `generator(latents, labels)` and tells its `latent_size` and its `layout`: its forward pass as an expression of
    plain torch, of latents `z` and its modules' names, for whoever rebuilds it from exported weights. A discriminator is called as
    `discriminator(images, labels)` and returns logits, (N) or (N, num_outputs), and features (N, ...). A larger logit always means more real.
    An unconditional network ignores the labels.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator

    @property
    def latent_size(self) -> int:
        """The dimension of the prior."""
        return cast(int, self.generator.latent_size)

    def real(self, batch: Batch, latents: Tensor) -> Example:
        """The example shown as real."""
        images, labels = batch
        return Example(images, labels, None)

    def fake(self, batch: Batch, latents: Tensor) -> Example:
        """The example shown as fake, with the labels of the batch."""
        _, labels = batch
        return Example(self.generator(latents, labels), labels, latents)

    def judge(self, example: Example) -> tuple[Tensor, Tensor]:
        """What the discriminator says of an example: logits and features."""
        return cast(tuple[Tensor, Tensor], self.discriminator(example.images, example.labels))
