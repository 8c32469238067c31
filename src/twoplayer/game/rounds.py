"""The result of computing one player's gradients."""

from typing import NamedTuple

from torch import Tensor

from twoplayer.models.base import Side
from twoplayer.tricks.base import Player


class Round(NamedTuple):
    """The player's adversarial cost, its penalties by trick, and both sides as judged."""

    cost: Tensor
    penalties: dict[str, Tensor]
    real: Side | None
    fake: Side

    def scalars(self, player: Player, norm: Tensor) -> dict[str, Tensor]:
        """Scalars to log; `norm` is the norm of the player's gradient."""
        penalties = {f"penalty/{name}": penalty for name, penalty in self.penalties.items()}
        return {f"loss/{player}": self.cost, **penalties, f"gradient_norm/{player}": norm}


def detached(result: Round) -> Round:
    """The same round, detached from the autograd graph."""
    penalties = {name: penalty.detach() for name, penalty in result.penalties.items()}
    return Round(result.cost.detach(), penalties, result.real and _detached(result.real), _detached(result.fake))


def _detached(side: Side) -> Side:
    latents = None if side.latents is None else side.latents.detach()
    return Side(side.images.detach(), side.condition, latents, side.logits.detach(), side.features.detach())
