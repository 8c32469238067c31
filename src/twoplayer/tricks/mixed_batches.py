"""Real images and fakes in one batch, against tip 4 of "How to train a GAN": batch normalization then no longer tells D which side it sees."""

import torch
from torch import Tensor

from twoplayer.models.base import Example
from twoplayer.tricks.base import Judge, Trick


class MixedBatches(Trick):
    """D judges both sides at once in its own update."""

    def judge_both(self, judge: Judge, real: Example, fake: Example) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """One call; both sides share the statistics of its batch."""
        logits, features = judge(Example(torch.cat([real.images, fake.images]), torch.cat([real.labels, fake.labels]), None))
        half = len(logits) // 2
        return (logits[:half], features[:half]), (logits[half:], features[half:])
