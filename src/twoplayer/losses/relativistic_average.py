"""The relativistic average GAN (RaSGAN; Jolicoeur-Martineau, 2018, arXiv:1807.00734).

D decides whether an image is more real than the other side's average.
"""

from torch import Tensor
from torch.nn.functional import softplus

from twoplayer.losses.base import Loss
from twoplayer.models.base import Side


class RelativisticAverage(Loss):
    """Binary cross-entropy on the difference to the mean logit of the other side.

    G's cost has both halves too, with the labels exchanged.
    """

    boundary = None
    compares = True
    batchwise = True

    def discriminator(self, real: Side, fake: Side, real_target: Tensor, fake_target: Tensor) -> Tensor:
        """Real images above the average fake, fakes below the average real image."""
        above, below = real.logits - fake.logits.mean(), fake.logits - real.logits.mean()
        on_real = real_target * softplus(-above) + (1 - real_target) * softplus(above)
        on_fake = fake_target * softplus(-below) + (1 - fake_target) * softplus(below)
        return on_real.mean() + on_fake.mean()

    def generator(self, fake: Side, real: Side | None, weights: Tensor) -> Tensor:
        """The same with the sides exchanged."""
        assert real is not None
        on_fake = weights * softplus(real.logits.mean() - fake.logits)
        return on_fake.mean() + softplus(real.logits - (weights * fake.logits).mean()).mean()
