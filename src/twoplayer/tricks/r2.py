"""R2 (Mescheder, Geiger and Nowozin, 2018, arXiv:1801.04406).

R1 at fakes. R3GAN (Huang et al., 2024, arXiv:2501.05441) needs both.
"""

from torch import Tensor

from twoplayer.models.base import Judge, Side
from twoplayer.tricks.r1 import R1


class R2(R1):
    """`weight` / 2 times the mean squared slope of D at fakes, computed lazily as R1 is."""

    slopes = frozenset({"fake"})

    def penalty(self, real: Side, fake: Side, judge: Judge) -> Tensor:
        return super().penalty(fake, real, judge)
