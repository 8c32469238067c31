"""LSGAN (Mao et al., 2017, arXiv:1611.04076), with the targets 1 for real and 0 for fake."""

from torch import Tensor

from twoplayer.losses.base import Loss


class LeastSquares(Loss):
    """Half the squared distance of the output to its target."""

    boundary = 0.5

    def real(self, logits: Tensor) -> Tensor:
        return 0.5 * (logits - 1).square()

    def fake(self, logits: Tensor) -> Tensor:
        return 0.5 * logits.square()
