"""Maximum likelihood as a game (Goodfellow, 2016, NIPS tutorial, arXiv:1701.00160, section 3.2.5).

G's cost is -exp(logit).
"""

from torch import Tensor

from twoplayer.losses.non_saturating import NonSaturating


class MaximumLikelihood(NonSaturating):
    """With an optimal D, G's gradient is that of the likelihood of the data.

    The few best fakes of a batch get nearly all of it.
    """

    def fool(self, logits: Tensor) -> Tensor:
        """-D(G(z)) / (1 - D(G(z)))."""
        return -logits.exp()
