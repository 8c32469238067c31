"""The original minimax loss (Goodfellow et al., 2014, arXiv:1406.2661, equation 1).

G minimizes log(1 - D(G(z))).
"""

from torch import Tensor

from twoplayer.losses.non_saturating import NonSaturating


class Minimax(NonSaturating):
    """Binary cross-entropy on logits, zero-sum: G's gradient saturates where D is confident."""

    def fool(self, logits: Tensor) -> Tensor:
        """log(1 - D(G(z)))."""
        return -self.fake(logits)
