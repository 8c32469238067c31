"""The families of networks: what both players are made of, and what each side shows for judgement."""

from collections.abc import Callable
from typing import ClassVar, NamedTuple, cast

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


Judge = Callable[[Example], Side]
"""What the discriminator says of an example, through the tricks' `view`."""


class Model(nn.Module):
    """A family of networks. Players are sets of modules: all that lies below `generator` is the generator's (an encoder, a
    second generator, InfoGAN's Q, too), all below `discriminator` the discriminator's.

    A generator is called as `generator(latents, labels)` and returns images (N, C, H, W) in [-1, 1]. It has
    - `latent_size`, the dimension of its latents;
    - `output`, its last layer. Tricks put modules behind all other layers that have a weight matrix;
    - `layout`, its forward pass as an expression of plain torch, of latents `z` and its modules' names, for whoever rebuilds it
      from exported weights.

    A discriminator is called as `discriminator(images, labels)` and returns logits, (N), or (N, num_outputs) where the loss asks for
    vectors, and features (N, ...). A larger logit always means more real. It has
    - `num_outputs`, how many numbers it gives for an image: 1, or the size of the vectors that some losses compare;
    - `output`, its last layer: `nn.Linear`, from features (N, F), which tricks can widen; or a `Decoder`, where it is an autoencoder.

    Both ignore labels that they have no use for. Sizes come from the configuration: the yaml of a model refers to `${data.channels}`,
    `${data.image_size}`. A loss of
    vectors sets `model.discriminator.num_outputs`.

    Some tricks and losses use settings of the discriminator that a model may have or not: `normalization` ("batch", "none", ...),
    `autoencoder` (true, false) and `channels`. They are refused with a model that lacks what they need.
    """

    bounds_slope: ClassVar[bool] = False
    """The discriminator's slope is bounded by its layers, as a Wasserstein critic needs."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator

    @property
    def latent_size(self) -> int:
        """The dimension of the prior."""
        return cast(int, self.generator.latent_size)

    @property
    def num_outputs(self) -> int:
        """What the discriminator says of an image: so many numbers."""
        return cast(int, self.discriminator.num_outputs)

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
