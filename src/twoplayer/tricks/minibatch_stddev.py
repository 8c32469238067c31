"""Minibatch standard deviation (Karras et al., 2018, arXiv:1710.10196).

D sees how much the images of a batch differ.
"""

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from twoplayer.losses.base import Loss
from twoplayer.models.base import Model
from twoplayer.tricks.base import Trick
from twoplayer.tricks.inserted import before_output
from twoplayer.tricks.minibatch_discrimination import refuse_autoencoder


class MinibatchStddev(Trick):
    """One more feature for D's last layer.

    It is the standard deviation of each feature over the batch, averaged over features.
    """

    needs = frozenset({"a discriminator"})

    @staticmethod
    def refuse(config: DictConfig) -> None:
        refuse_autoencoder("minibatch_stddev", config)

    def build(self, model: Model, loss: Loss) -> None:
        before_output(model.discriminator, lambda features: Spread(), 1, "minibatch_stddev")


class Spread(nn.Module):
    """Adds the same number to the features of every image."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, F) to (N, F + 1)."""
        spread = (features.var(0, correction=0) + 1e-8).sqrt().mean()
        return torch.cat([features, spread.expand(len(features), 1)], 1)
