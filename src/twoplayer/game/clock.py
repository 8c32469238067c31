"""Counts iterations, real images and updates, and gives each player its turns."""

from typing import Any

from torch import Tensor, nn

from twoplayer.tricks.base import Costs, Player, Tricks, Turns


class Clock(nn.Module):
    """Counts iterations, real images and each player's updates. It is saved with the game."""

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.iteration = 0
        self.updates: dict[Player, int] = {"discriminator": 0, "generator": 0}
        self._costs: dict[Player, Tensor] = {}

    @property
    def images_seen(self) -> int:
        """Real images seen by all ranks together: the axis that runs are compared on.

        Each iteration counts its batch once.
        """
        return self.iteration * self.batch_size

    def turns(self, tricks: Tricks) -> Turns:
        """The number of each player's updates in this iteration: one, unless a trick changes it."""
        costs = Costs(**self._costs) if len(self._costs) == len(Costs._fields) else None
        return tricks.turns(self.iteration, costs)

    def count_update(self, player: Player, cost: Tensor) -> None:
        """Count one update of a player; `cost` is its adversarial cost, averaged over ranks."""
        self.updates[player] += 1
        self._costs[player] = cost

    def count_iteration(self) -> None:
        """Call after each iteration."""
        self.iteration += 1

    def crossed(self, every: int) -> bool:
        """Whether the last iteration reached or passed a multiple of `every` images."""
        return self.images_seen // every > (self.images_seen - self.batch_size) // every

    def crossed_once(self, moment: int) -> bool:
        """Whether the last iteration reached or passed `moment` images."""
        return self.images_seen >= moment > self.images_seen - self.batch_size

    def get_extra_state(self) -> dict[str, Any]:
        """The state for checkpoints."""
        return {"iteration": self.iteration, "updates": dict(self.updates), "costs": dict(self._costs)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.iteration, self.updates, self._costs = state["iteration"], state["updates"], state["costs"]
