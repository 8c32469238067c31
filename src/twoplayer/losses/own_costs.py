"""No loss of its own, for a model whose own costs are all there is."""

from torch import Tensor

from twoplayer.losses.non_saturating import NonSaturating
from twoplayer.models.base import Side


class OwnCosts(NonSaturating):
    """The generator's cost is zero. A discriminator, if there is one, learns by cross-entropy."""

    needs_discriminator = False
    needs_own_costs = True

    def generator(self, fake: Side, real: Side | None, weights: Tensor) -> Tensor:
        """Zero."""
        return 0 * weights.sum()
