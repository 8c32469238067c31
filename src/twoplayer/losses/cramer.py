"""Cramér GAN (Bellemare et al., 2017, arXiv:1705.10743).

The energy distance of D's vectors, whose gradients are unbiased.
"""

from torch import Tensor

from twoplayer.losses.sets import SetLoss, anchors, distances, mean_of_others
from twoplayer.models.base import Side


class Cramer(SetLoss):
    """The critic of a vector is its mean distance to the fakes minus its distance to zero.

    G lowers the energy distance itself.
    """

    def discriminator(self, real: Side, fake: Side, real_target: Tensor, fake_target: Tensor) -> Tensor:
        """The critic's mean on fakes minus its mean on real images.

        Each fake is compared with the other fakes.
        """
        on_real = distances(real.logits, fake.logits).mean(1) - _norms(real.logits)
        on_fake = mean_of_others(distances(fake.logits, fake.logits)) - _norms(fake.logits)
        return on_fake.mean() - on_real.mean()

    def generator(self, fake: Side, real: Side | None, weights: Tensor) -> Tensor:
        """The part of the energy distance that depends on fakes."""
        assert real is not None
        across = (weights[:, 0] * distances(real.logits, fake.logits)).mean()
        return 2 * across - (weights[:, 0] * mean_of_others(weights[:, 0] * distances(fake.logits, fake.logits))).mean()

    def critic(self, vectors: Tensor, real: Side, fake: Side) -> Tensor:
        return distances(vectors, anchors(fake)).mean(1) - _norms(vectors)


def _norms(vectors: Tensor) -> Tensor:
    return distances(vectors, vectors.new_zeros(1, vectors.shape[1]))[:, 0]
