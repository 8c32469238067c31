"""The relaxed Wasserstein distance (Guo et al., 2017, arXiv:1705.07164).

The cost of moving x to y is a Bregman divergence, here the Kullback-Leibler divergence of pixels.
"""

import math
from typing import Annotated

from annotated_types import Gt, Lt
from torch import Tensor

from twoplayer.tricks.base import Trick


class RelaxedWasserstein(Trick):
    """The critic sees the gradient of a convex function phi at an image instead of the image.

    So G's gradient is the Hessian of phi at its image, times the critic's slope at the gradient of
    phi. Here phi is the sum of p log p over the pixels p, which are mapped from [-1, 1] to
    [`least`, 1] first, and its gradient is 1 + log p. The critic sees that gradient scaled to
    [-1, 1].
    """

    needs = frozenset({"images"})
    order = 1  # after all tricks that change each image

    def __init__(self, *, least: Annotated[float, Gt(0), Lt(1)]) -> None:
        super().__init__()
        self.least = least

    def view(self, images: Tensor) -> Tensor:
        """From [-1, 1] to [-1, 1]; images beyond, such as noisy ones, are clamped."""
        pixels = self.least + (1 - self.least) * (images.clamp(-1, 1) + 1) / 2
        return 1 - 2 * pixels.log() / math.log(self.least)
