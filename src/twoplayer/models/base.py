"""The base class of models: what both players consist of, and the examples of both sides."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from twoplayer import randomness
from twoplayer.models.layers import Decoder

Batch = tuple[Tensor, ...]
"""Real images (N, C, H, W) in [-1, 1], their labels (N), and what else the data give.

Points of any shape (N, ...) can take the place of images.
"""


class Example(NamedTuple):
    """What the discriminator gets of one side.

    `condition` is what both players are told about an image: its class (N), or its source image.
    The latents of a fake are those it was generated from. For real images they are None, except in
    a family that judges pairs, which puts the partner there. `own` is what a family carries from
    `Model.fake` to its costs, such as the posterior of a VAE.
    """

    images: Tensor
    condition: Tensor
    latents: Tensor | None
    own: Tensor | None = None


class Side(NamedTuple):
    """One side of a round: an example before `view`, and the discriminator's output on it."""

    images: Tensor
    condition: Tensor
    latents: Tensor | None
    own: Tensor | None
    logits: Tensor
    features: Tensor


def as_example(side: Side, images: Tensor) -> Example:
    """Other images in the place of those of a side, to be judged likewise."""
    return Example(images, side.condition, side.latents, side.own)


Judge = Callable[[Example], Side]
"""Returns the discriminator's output on an example, after the tricks' `view`."""


Hide = Callable[[Tensor], Tensor]
"""Maps logits of real images to the cost, a scalar, of whoever wants them to look like fakes."""


class Picture(NamedTuple):
    """Images (N, C, H, W) in [-1, 1] to be shown in a grid of so many columns."""

    images: Tensor
    columns: int


class Nobody(nn.Module):
    """In the place of the discriminator of a family that has none: it has nothing to learn."""

    num_outputs = 1

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Identity()

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N) and features (N, 1), all zero."""
        undecided = torch.zeros(len(images), 1, device=images.device)
        return undecided[:, 0], undecided


class Model(nn.Module):
    """A family of networks.

    Players are sets of modules: all modules below `generator` belong to the generator (also an
    encoder, a second generator, InfoGAN's Q), all below `discriminator` to the discriminator.

    A generator is called as `generator(latents, labels)` and returns images (N, C, H, W) in
    [-1, 1]. It has

    - `latent_size`, the dimension of its latents;
    - `output`, its last layer. Tricks add modules after all other layers that have a weight matrix;
    - `layout`, its forward pass as an expression of plain torch, with latents `z` and the names of
      its modules, for users who rebuild it from exported weights. Modules that it names consist of
      modules of `torch.nn` alone. A sum needs a name: `output((h := input(z)) + block(h))`. None if
      it is no such expression; then the generator is not exported.

    It may have `beside`, the names of modules that are not on the way from latents to images.

    A discriminator is called as `discriminator(images, labels)` and returns logits, (N), or
    (N, num_outputs) if the loss needs vectors, and features (N, ...). A larger logit always means
    more real. It has

    - `num_outputs`, the number of outputs per image: 1, or the size of the vectors that some losses
      compare;
    - `output`, its last layer: an `nn.Linear` from features (N, F), which tricks can widen, or a
      `Decoder` in an autoencoder.

    Both ignore labels that they do not use. Sizes come from the configuration: the yaml of a model
    refers to `${data.channels}` and `${data.image_size}`. A loss of vectors sets
    `model.discriminator.num_outputs`. A family without a discriminator passes None in its place.

    Some tricks and losses use settings that a model's discriminator may lack: `normalization`
    ("batch", "none", ...), `autoencoder` (true, false) and `packs`, the number of images that D
    judges at once. They are refused with a model that lacks the setting they need.
    """

    bounds_slope: ClassVar[bool] = False
    """The discriminator's layers bound its slope, as a Wasserstein critic needs."""
    needs_real: ClassVar[bool] = False
    """`generator_costs` needs the real side."""
    restores: ClassVar[bool] = False
    """A fake is to be equal to the real image at its place in the batch."""
    translates: ClassVar[bool] = False
    """The generator is told source images, which are the third part of a batch, not labels."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """What the data must give: "sources", and "pairs" if they have to belong to their targets."""
    lacks: ClassVar[Mapping[str, str]] = {}
    """What `Trick.needs` names and this family does not give, each with the reason."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module | None) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = Nobody() if discriminator is None else discriminator

    @property
    def latent_size(self) -> int:
        """The dimension of the prior."""
        return cast(int, self.generator.latent_size)

    @property
    def adversarial(self) -> bool:
        """Whether there is a discriminator."""
        return not isinstance(self.discriminator, Nobody)

    @property
    def judges_images(self) -> bool:
        """Whether what the discriminator judges are images, which can be given to it."""
        return self.adversarial

    @property
    def conditional(self) -> bool:
        """Whether the images depend on the labels."""
        return getattr(self.generator, "condition", None) is not None

    @property
    def num_outputs(self) -> int:
        """The number of the discriminator's outputs per image."""
        return cast(int, self.discriminator.num_outputs)

    def condition(self, batch: Batch) -> Tensor:
        """What both players are told of a batch: labels (N), or source images (N, C, H, W)."""
        return batch[2] if self.translates else batch[1]

    def real(self, batch: Batch, latents: Tensor) -> Example:
        """The example shown as real."""
        return Example(batch[0], self.condition(batch), None)

    def fake(self, batch: Batch, latents: Tensor) -> Example:
        """The example shown as fake, with the condition of the batch."""
        condition = self.condition(batch)
        return Example(self.generator(latents, condition), condition, latents)

    def judge(self, example: Example) -> tuple[Tensor, Tensor]:
        """The discriminator's logits and features of an example."""
        return cast(tuple[Tensor, Tensor], self.discriminator(example.images, example.condition))

    def example(self, images: Tensor, labels: Tensor) -> Example:
        """Given images, real or not, as the discriminator is to judge them."""
        return Example(images, labels, None)

    def discriminator_costs(self, batch: Batch, judge: Judge) -> dict[str, Tensor]:
        """A family's own costs of the discriminator, scalars, logged as `loss/<name>`."""
        return {}

    def generator_costs(self, batch: Batch, real: Side | None, fake: Side, judge: Judge, hide: Hide) -> dict[str, Tensor]:
        """A family's own costs of the generator, scalars, logged as `loss/<name>`."""
        return {}

    def encode(self, images: Tensor, labels: Tensor) -> Tensor | None:
        """The codes (N, d) of images, if the family has an encoder."""
        return None

    def clusters(self, images: Tensor, labels: Tensor) -> Tensor | None:
        """The categories (N) of images, if the family finds some; labels are not used."""
        return None

    def code(self, latents: Tensor) -> Tensor | None:
        """The categories (N) in latents, if the family has some."""
        return None

    def measures(self, batch: Batch) -> dict[str, Tensor]:
        """What a family can measure on a held-out batch: one number (N) per image, by name.

        The model is in evaluation mode.
        """
        return {}

    def pictures(self, batch: Batch, view: Callable[[Tensor], Tensor]) -> dict[str, Picture]:
        """What the family shows of itself at the end of a run, by name, from held-out images.

        An autoencoder shows images as D sees them, after the tricks' `view`, and below each its
        reconstruction.
        """
        decoder = self.discriminator.output
        if not isinstance(decoder, Decoder):
            return {}
        images = batch[0]
        seen = view(images)
        _, codes = self.judge(Example(seen, self.condition(batch), None))
        rows = [each.reshape(images.shape) for each in (seen, decoder.images(codes, None))]
        return {"reconstructions": Picture(torch.cat(rows), len(images))}

    @torch.no_grad()
    def num_features(self) -> int:
        """The number of the discriminator's features per image, found by a pass on two images."""
        labels = torch.zeros(2, dtype=torch.int64)
        with evaluating(self, labels.device):
            _, features = self.judge(self.example(self.generator(torch.zeros(2, self.latent_size), labels), labels))
        return features[0].numel()


@contextmanager
def evaluating(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Hold a module in evaluation mode; what is drawn meanwhile does not change training."""
    was_training = module.training
    module.eval()
    with randomness.aside(device):
        yield
    module.train(was_training)
