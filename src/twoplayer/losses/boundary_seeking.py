"""BGAN for continuous data (Hjelm et al., 2018, arXiv:1702.08431, section 3).

G seeks the boundary, where D cannot distinguish real from fake.
"""

from torch import Tensor

from twoplayer.losses.non_saturating import NonSaturating


class BoundarySeeking(NonSaturating):
    """Half the squared log odds.

    A fake that D rates surely real is as far from the boundary as one that D rates surely fake.
    """

    def fool(self, logits: Tensor) -> Tensor:
        """(log D(G(z)) - log(1 - D(G(z))))^2 / 2."""
        return 0.5 * logits.square()
