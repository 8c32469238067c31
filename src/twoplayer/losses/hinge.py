"""The hinge loss (Lim and Ye, 2017, arXiv:1705.02894).

D's cost ignores logits beyond the margin.
"""

from torch import Tensor
from torch.nn.functional import relu

from twoplayer.losses.base import Loss


class Hinge(Loss):
    """A margin of 1 on either side; G raises the logit without bound."""

    def real(self, logits: Tensor) -> Tensor:
        return relu(1 - logits)

    def fake(self, logits: Tensor) -> Tensor:
        return relu(1 + logits)

    def fool(self, logits: Tensor) -> Tensor:
        return -logits

    def hide(self, logits: Tensor) -> Tensor:
        """The mean logit, as linear as the cost of a fake."""
        return logits.mean()
