"""Spectral normalization (Miyato et al., 2018, arXiv:1802.05957).

The weight matrix of each layer of D stretches no vector by more than 1. That of a convolution has a
row per output channel; the convolution itself may stretch by a little more.
"""

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from twoplayer.tricks.base import Trick


class SpectralNorm(Trick):
    """Divides the weights of D's linear and convolutional layers by their largest singular value.

    It takes one power iteration per forward pass.
    """

    bounds_slope = True

    needs = frozenset({"a discriminator"})

    def wrap(self, generator: nn.Module, discriminator: nn.Module) -> None:
        for module in list(discriminator.modules()):
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                spectral_norm(module)
