"""Where the game stands, and whose turn it is."""

from typing import Any

from torch import Tensor, nn

from twoplayer.tricks.base import Costs, Player, Tricks, Turns


class Clock(nn.Module):
    """Counts iterations, real images and the updates of each player. It is saved with the game."""

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.iteration = 0
        self.updates: dict[Player, int] = {"discriminator": 0, "generator": 0}
        self._costs: dict[Player, Tensor] = {}

    @property
    def images_seen(self) -> int:
        """Real images of all ranks, each iteration's batch once: the axis that runs are compared on."""
        return self.iteration * self.batch_size

    def turns(self, tricks: Tricks) -> Turns:
        """The updates of both players in this iteration: one each, unless a trick says otherwise."""
        costs = Costs(**self._costs) if len(self._costs) == len(Costs._fields) else None
        return tricks.turns(self.iteration, costs)

    def count_update(self, player: Player, cost: Tensor) -> None:
        """After an update of a player, with its adversarial cost, averaged over ranks."""
        self.updates[player] += 1
        self._costs[player] = cost

    def count_iteration(self) -> None:
        """After an iteration."""
        self.iteration += 1

    def crossed(self, every: int) -> bool:
        """Whether the last iteration has reached or passed a multiple of so many images."""
        return self.images_seen // every > (self.images_seen - self.batch_size) // every

    def crossed_once(self, moment: int) -> bool:
        """Whether the last iteration has reached or passed this number of images."""
        return self.images_seen >= moment > self.images_seen - self.batch_size

    def get_extra_state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"iteration": self.iteration, "updates": dict(self.updates), "costs": dict(self._costs)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.iteration, self.updates, self._costs = state["iteration"], state["updates"], state["costs"]
