"""Real images and fakes in one batch, contrary to tip 4 of "How to train a GAN".

Batch normalization then does not reveal to D which side it sees.
"""

import torch

from twoplayer.models.base import Example, Judge, Side
from twoplayer.tricks.base import Trick


class MixedBatches(Trick):
    """D judges both sides in one batch, in both players' updates.

    So G is judged with the same kind of batch statistics that D was trained with.
    """

    needs = frozenset({"single examples"})
    needs_real = True

    def judge_both(self, judge: Judge, real: Example, fake: Example) -> tuple[Side, Side]:
        both = judge(Example(torch.cat([real.images, fake.images]), torch.cat([real.condition, fake.condition]), None))
        half = len(both.logits) // 2
        return Side(*real, both.logits[:half], both.features[:half]), Side(*fake, both.logits[half:], both.features[half:])

    def judge_fakes(self, judge: Judge, real: Example | None, fake: Example) -> tuple[Side | None, Side]:
        assert real is not None
        return self.judge_both(judge, real, fake)
