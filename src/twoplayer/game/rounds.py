"""The result of computing one player's gradients."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from twoplayer.models.base import Side
from twoplayer.tricks.base import Player


class Round(NamedTuple):
    """The player's adversarial cost, the other costs and both sides as judged.

    `added` holds the costs that are added, by the names under which they are logged.
    """

    cost: Tensor
    added: dict[str, Tensor]
    real: Side | None
    fake: Side

    def scalars(self, player: Player, norm: Tensor) -> dict[str, Tensor]:
        """Scalars to log; `norm` is the norm of the player's gradient."""
        return {f"loss/{player}": self.cost, **self.added, f"gradient_norm/{player}": norm}


def named(place: str, costs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Costs by the names under which they are logged: `<place>/<name>`."""
    return {f"{place}/{name}": cost for name, cost in costs.items()}


def detached(result: Round) -> Round:
    """The same round, detached from the autograd graph."""
    added = {name: cost.detach() for name, cost in result.added.items()}
    return Round(result.cost.detach(), added, result.real and _detached(result.real), _detached(result.fake))


def _detached(side: Side) -> Side:
    latents, own = (None if part is None else part.detach() for part in (side.latents, side.own))
    return Side(side.images.detach(), side.condition, latents, own, side.logits.detach(), side.features.detach())
