"""Feature matching (Salimans et al., 2016, arXiv:1606.03498, section 3.1).

The mean of D's features on fakes should match that on real images.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from twoplayer.distributed import ranks
from twoplayer.models.base import Judge, Side
from twoplayer.tricks.base import Trick


class FeatureMatching(Trick):
    """`weight` times the squared distance between the mean features of both sides.

    It replaces G's cost, as in the paper, or is added to it.
    """

    needs_real = True

    def __init__(self, *, weight: Annotated[float, Gt(0)], replace: bool, every_updates: Annotated[int, Ge(1)]) -> None:
        super().__init__()
        self.replace, self.every_updates = replace, every_updates
        self.register_buffer("weight", torch.tensor(weight))
        self.weight: Tensor

    def generator_cost(self, cost: Tensor, real: Side | None, fake: Side) -> Tensor:
        """Zero where the adversarial cost is replaced."""
        return 0 * fake.logits.mean() if self.replace else cost  # not 0 * cost, which may be infinite

    def generator_penalty(self, real: Side | None, fake: Side, judge: Judge) -> Tensor:
        assert real is not None
        means = [ranks.concatenate(side.features.flatten(1)).mean(0) for side in (real, fake)]  # of the whole batch
        return self.weight * (means[0] - means[1]).square().sum()
