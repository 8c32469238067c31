"""Minibatch discrimination (Salimans et al., 2016, arXiv:1606.03498, section 3.2).

D sees how close an image is to the others of its batch.
"""

from typing import Annotated

import torch
from annotated_types import Ge
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from twoplayer.errors import ConfigurationError
from twoplayer.losses.base import Loss
from twoplayer.models.base import Model
from twoplayer.tricks.base import Trick
from twoplayer.tricks.inserted import before_output

OTHERS = 63
"""The number of other images in a batch of 64, the default."""


class MinibatchDiscrimination(Trick):
    """`num` more features for D's last layer.

    Each compares `size` numbers of an image with those of the other images.
    """

    needs = frozenset({"a discriminator"})

    def __init__(self, *, num: Annotated[int, Ge(1)], size: Annotated[int, Ge(1)]) -> None:
        super().__init__()
        self.num, self.size = num, size

    @staticmethod
    def refuse(config: DictConfig) -> None:
        refuse_autoencoder("minibatch_discrimination", config)

    def build(self, model: Model, loss: Loss) -> None:
        before_output(model.discriminator, lambda features: Closeness(features, self.num, self.size), self.num, "minibatch_discrimination")


class Closeness(nn.Module):
    """Adds `num` features: sums, over the other images, of exp(-L1 distance) of `size` numbers.

    They are scaled as if there were 63 other images, so that their size does not tell D how many
    images it judges at once: with replay, or on several ranks, real images and fakes may differ.
    """

    def __init__(self, features: int, num: int, size: int) -> None:
        super().__init__()
        self.tensor = nn.Linear(features, num * size, bias=False)
        self.num = num

    def forward(self, features: Tensor) -> Tensor:
        """(N, F) to (N, F + num)."""
        rows = self.tensor(features).unflatten(1, (self.num, -1))
        near = (-(rows[:, None] - rows[None]).abs().sum(3)).exp().sum(1) - 1  # each is at distance 0 from itself
        near = near * (OTHERS / max(len(rows) - 1, 1))
        return torch.cat([features, near], 1)


def refuse_autoencoder(trick: str, config: DictConfig) -> None:
    """Refuse an autoencoder as D, for a trick that widens D's last layer."""
    if OmegaConf.select(config, "model.discriminator.autoencoder"):
        raise ConfigurationError(
            f"trick={trick}: it does not work with model.discriminator.autoencoder=true, which has no linear last layer; leave one of them out"
        )
