"""Dropout in G, in sampling too (Isola et al., 2017, arXiv:1611.07004).

Tip 17 of "How to train a GAN": another source of noise than latents.
"""

from typing import Annotated

from annotated_types import Gt, Lt
from torch import Tensor, nn
from torch.nn.functional import dropout

from twoplayer.tricks.base import Trick
from twoplayer.tricks.inserted import after_hidden_layers


class GeneratorDropout(Trick):
    """Zeroes a `share` of the outputs of every hidden layer of G, in sampling too."""

    needs = frozenset({"hidden layers"})

    def __init__(self, *, share: Annotated[float, Gt(0), Lt(1)]) -> None:
        super().__init__()
        self.share = share

    def wrap(self, generator: nn.Module, discriminator: nn.Module) -> None:
        after_hidden_layers(generator, lambda: Dropout(self.share), "generator_dropout")


class Dropout(nn.Module):
    """Dropout that stays active in evaluation mode."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, values: Tensor) -> Tensor:
        return dropout(values, self.share, training=True)
