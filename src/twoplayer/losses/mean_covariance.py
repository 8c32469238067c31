"""McGAN (Mroueh, Sercu and Goel, 2017, arXiv:1702.08398): the means and the covariances of D's vectors."""

import torch
from torch import Tensor

from twoplayer.losses.sets import SetLoss
from twoplayer.models.base import Side


class MeanCovariance(SetLoss):
    """The Euclidean distance of the means plus the nuclear norm of the difference of the covariances."""

    def discriminator(self, real: Side, fake: Side, real_target: Tensor, fake_target: Tensor) -> Tensor:
        """The negative distance."""
        return -_distance(real.logits, fake.logits, torch.ones_like(fake_target))

    def generator(self, fake: Side, real: Side | None, weights: Tensor) -> Tensor:
        """The distance."""
        assert real is not None
        return _distance(real.logits, fake.logits, weights)

    def critic(self, logits: Tensor, real: Side, fake: Side) -> Tensor:
        """How far a vector is from the fakes' mean towards the real one, plus the same for its spread around the mean of its side's."""
        difference, directions, signs = _parts(real.logits.detach(), fake.logits.detach())
        along = logits @ (difference / torch.linalg.vector_norm(difference).clamp_min(1e-12))
        centred = logits - real.logits.detach().mean(0)
        return along + ((centred @ directions).square() * signs).sum(1)


def _distance(real: Tensor, fake: Tensor, weights: Tensor) -> Tensor:
    difference = real.mean(0) - (weights * fake).mean(0)
    # Its gradient is that of a norm; where both means are equal it has none.
    norm = torch.linalg.vector_norm(difference)
    return norm + torch.linalg.eigvalsh(_covariance(real, torch.ones_like(real)) - _covariance(fake, weights)).abs().sum()


def _covariance(vectors: Tensor, weights: Tensor) -> Tensor:
    centred = vectors - (weights * vectors).mean(0)
    return (weights * centred).T @ centred / len(vectors)


def _parts(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    values, directions = torch.linalg.eigh(_covariance(real, torch.ones_like(real)) - _covariance(fake, torch.ones_like(fake)))
    return real.mean(0) - fake.mean(0), directions, values.sign()
