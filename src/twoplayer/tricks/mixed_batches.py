"""Real images and fakes in one batch, against tip 4 of "How to train a GAN": batch normalization then no longer tells D which side it sees."""

import torch

from twoplayer.models.base import Example, Judge, Side
from twoplayer.tricks.base import Trick


class MixedBatches(Trick):
    """D judges both sides in one batch, in both players' updates: the statistics by which G is judged are those by which D was trained."""

    needs_real = True

    def judge_both(self, judge: Judge, real: Example, fake: Example) -> tuple[Side, Side]:
        """One call; both sides share the statistics of its batch."""
        both = judge(Example(torch.cat([real.images, fake.images]), torch.cat([real.labels, fake.labels]), None))
        half = len(both.logits) // 2
        return Side(*real, both.logits[:half], both.features[:half]), Side(*fake, both.logits[half:], both.features[half:])

    def judge_fakes(self, judge: Judge, real: Example | None, fake: Example) -> tuple[Side | None, Side]:
        """The same call."""
        assert real is not None
        return self.judge_both(judge, real, fake)
