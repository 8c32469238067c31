"""The relativistic GAN on pairs (RSGAN; Jolicoeur-Martineau, 2018, arXiv:1807.00734).

D decides whether a real image is more real than a fake.
"""

from torch import Tensor
from torch.nn.functional import softplus

from twoplayer.losses.base import Loss
from twoplayer.models.base import Side


class Relativistic(Loss):
    """Binary cross-entropy on the difference of a pair's logits."""

    boundary = None
    compares = True

    def discriminator(self, real: Side, fake: Side, real_target: Tensor, fake_target: Tensor) -> Tensor:
        """-log P(real is more real than fake); both sides' soft labels count half each."""
        difference = real.logits - fake.logits
        target = (real_target + 1 - fake_target) / 2
        return (target * softplus(-difference) + (1 - target) * softplus(difference)).mean()

    def generator(self, fake: Side, real: Side | None, weights: Tensor) -> Tensor:
        """-log P(fake is more real than real)."""
        assert real is not None
        return (weights * softplus(real.logits - fake.logits)).mean()
