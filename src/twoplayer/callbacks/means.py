"""Means of the game's scalars over iterations, gathered on the device."""

from typing import Any

import torch
from torch import Tensor

from twoplayer.distributed import ranks
from twoplayer.game.game import Game


class Means:
    """Adds up the scalars of every iteration since `clear`; the host does not wait for them."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._sums)

    def add(self, scalars: dict[str, Tensor]) -> None:
        """Add the scalars of an iteration."""
        for name, value in scalars.items():
            # Clone: the next captured update overwrites the same tensors.
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
            self._counts[name] = self._counts.get(name, 0) + 1

    def read(self, game: Game, more: dict[str, Tensor]) -> dict[str, float]:
        """The means over iterations and ranks, and the scalars `more`. All ranks call this."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()} | more
        if not means:
            return {}
        values = ranks.mean(torch.stack([value.float().to(game.device) for value in means.values()]))
        return dict(zip(means, values.tolist(), strict=True))

    def clear(self) -> None:
        self._sums, self._counts = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """The sums of every rank. All ranks must call this."""
        sums = ranks.gather(torch.stack(list(self._sums.values()))) if self._sums else []
        return {"names": list(self._sums), "sums": sums, "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore this rank's sums."""
        own = state["sums"][ranks.rank()].unbind() if state["sums"] else ()
        self._sums, self._counts = dict(zip(state["names"], own, strict=True)), state["counts"]
