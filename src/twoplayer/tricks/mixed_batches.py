"""Real images and fakes in one batch, against tip 4 of "How to train a GAN": batch normalization then no longer tells D which side it sees."""

import torch

from twoplayer.models.base import Example
from twoplayer.tricks.base import Judge, Judgement, Trick


class MixedBatches(Trick):
    """D judges both sides in one batch, in both players' updates: the statistics by which G is judged are those by which D was trained."""

    needs_real = True

    def judge_both(self, judge: Judge, real: Example, fake: Example) -> tuple[Judgement, Judgement]:
        """One call; both sides share the statistics of its batch."""
        logits, features = judge(Example(torch.cat([real.images, fake.images]), torch.cat([real.labels, fake.labels]), None))
        half = len(logits) // 2
        return (logits[:half], features[:half]), (logits[half:], features[half:])

    def judge_fakes(self, judge: Judge, real: Example | None, fake: Example) -> tuple[Judgement | None, Judgement]:
        """The same call."""
        assert real is not None
        return self.judge_both(judge, real, fake)
