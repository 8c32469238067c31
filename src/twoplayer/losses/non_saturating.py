"""The non-saturating objective (Goodfellow et al., 2014, arXiv:1406.2661, section 3): G maximizes log D(G(z))."""

from torch import Tensor
from torch.nn.functional import softplus

from twoplayer.losses.base import Loss


class NonSaturating(Loss):
    """Binary cross-entropy on logits; for G with the labels flipped, so that bad samples get the larger gradient."""

    def real(self, logits: Tensor) -> Tensor:
        """-log D(x)."""
        return softplus(-logits)

    def fake(self, logits: Tensor) -> Tensor:
        """-log(1 - D(G(z)))."""
        return softplus(logits)

    def output(self, logits: Tensor) -> Tensor:
        """The probability of being real."""
        return logits.sigmoid()
