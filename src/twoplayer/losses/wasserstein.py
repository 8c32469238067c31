"""The Wasserstein distance (Arjovsky, Chintala and Bottou, 2017, arXiv:1701.07875).

A trick has to bound the critic's slope.
"""

from torch import Tensor

from twoplayer.losses.base import Loss


class Wasserstein(Loss):
    """The critic's mean on fakes minus its mean on real images.

    Only differences of logits have a meaning.
    """

    boundary = None
    soft_labels = False
    needs_bounded_slope = True

    def real(self, logits: Tensor) -> Tensor:
        return -logits

    def fake(self, logits: Tensor) -> Tensor:
        return logits
