"""GMMN (Li, Swersky and Zemel, 2015, arXiv:1502.02761).

The maximum mean discrepancy of the images themselves: G has no adversary.
"""

from typing import Annotated

from annotated_types import Gt, MinLen
from torch import Tensor

from twoplayer.losses.mmd import MMD
from twoplayer.losses.non_saturating import NonSaturating
from twoplayer.models.base import Side


class MomentMatching(NonSaturating):
    """G lowers the discrepancy of pixels, with a sum of Gaussian kernels.

    D has no part in it. It learns to tell both sides apart by cross-entropy, so that its accuracy
    can be read; trick=[frozen_discriminator] saves the time for that.
    """

    compares = True
    needs_discriminator = False
    batchwise = True

    def __init__(self, *, scales: Annotated[list[Annotated[float, Gt(0)]], MinLen(1)]) -> None:
        super().__init__()
        self._discrepancy = MMD(kernel="gaussian", scales=scales)

    def generator(self, fake: Side, real: Side | None, weights: Tensor) -> Tensor:
        """The discrepancy of the images, before the tricks' view. A pack shares its weight."""
        assert real is not None
        num_packed = len(fake.images) // len(weights)
        return self._discrepancy.generator(_of_pixels(fake), _of_pixels(real), weights.repeat_interleave(num_packed)[:, None])

    def gather_side(self, side: Side) -> Side:
        """A side with the logits and the images of all ranks."""
        return side._replace(logits=self.gather(side.logits), images=self.gather(side.images))


def _of_pixels(side: Side) -> Side:
    return side._replace(logits=side.images.flatten(1))
