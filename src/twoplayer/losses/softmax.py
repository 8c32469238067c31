"""Softmax GAN (Lin, 2017, arXiv:1704.06191).

A softmax over a batch of real images and fakes, in place of a sigmoid for each.
"""

import math

import torch
from torch import Tensor

from twoplayer.losses.base import Loss
from twoplayer.models.base import Side


class Softmax(Loss):
    """Cross-entropy of the softmax over the logits of both sides together.

    D spreads the probability evenly over the real images; G spreads it evenly over all images. The
    constant log N, for N logits on each side, is subtracted, so that an undecided D costs log 2.
    """

    boundary = None
    compares = True
    batchwise = True
    soft_labels = False

    def discriminator(self, real: Side, fake: Side, real_target: Tensor, fake_target: Tensor) -> Tensor:
        """The log of Z, less the mean logit of real images."""
        return _log_partition(real, fake) - real.logits.mean()

    def generator(self, fake: Side, real: Side | None, weights: Tensor) -> Tensor:
        """The log of Z, less the mean logit of all images.

        As the probabilities, the weights multiply each fake's part of Z.
        """
        assert real is not None
        mean = (real.logits.mean() + (weights * fake.logits).mean()) / 2
        return _log_partition(real, fake._replace(logits=fake.logits + weights.log())) - mean


def _log_partition(real: Side, fake: Side) -> Tensor:
    """The log of Z, the sum of exp(logit) over both sides, divided by the size of one side."""
    return torch.cat([real.logits, fake.logits]).logsumexp(0) - math.log(len(real.logits))
