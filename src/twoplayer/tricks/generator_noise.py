"""Gaussian noise after every hidden layer of G.

Zhao, Mathieu and LeCun (2017, arXiv:1609.03126); tip 13 of "How to train a GAN".
"""

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn

from twoplayer.tricks.base import Trick
from twoplayer.tricks.inserted import after_hidden_layers


class GeneratorNoise(Trick):
    """Noise of standard deviation `sigma`, in training; samples are drawn without it."""

    needs = frozenset({"hidden layers"})

    def __init__(self, *, sigma: Annotated[float, Gt(0)]) -> None:
        super().__init__()
        self.sigma = sigma

    def wrap(self, generator: nn.Module, discriminator: nn.Module) -> None:
        after_hidden_layers(generator, lambda: Noise(self.sigma), "generator_noise")


class Noise(nn.Module):
    """Adds noise in training mode."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, values: Tensor) -> Tensor:
        return values + self.sigma * torch.randn_like(values) if self.training else values
