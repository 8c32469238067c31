"""The non-saturating loss (Goodfellow et al., 2014, arXiv:1406.2661, section 3).

G maximizes log D(G(z)).
"""

from torch import Tensor
from torch.nn.functional import softplus

from twoplayer.losses.base import Loss


class NonSaturating(Loss):
    """Binary cross-entropy on logits; G's labels are flipped, so bad fakes get larger gradients."""

    def real(self, logits: Tensor) -> Tensor:
        """-log D(x)."""
        return softplus(-logits)

    def fake(self, logits: Tensor) -> Tensor:
        """-log(1 - D(G(z)))."""
        return softplus(logits)

    def output(self, logits: Tensor) -> Tensor:
        """The probability of being real."""
        return logits.sigmoid()
