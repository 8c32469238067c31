"""Logs the scalars of the game, averaged over iterations, and stops at non-finite gradients."""

import time
from typing import Annotated, Any

import torch
from annotated_types import Ge
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from twoplayer.distributed import ranks
from twoplayer.errors import NumericsError
from twoplayer.game.game import Game
from twoplayer.loggers.base import log_scalars


class Scalars(Callback):
    """Logs the mean of each scalar every `every_iterations`.

    Between logs the scalars stay on the device, so the host does not wait for it.
    """

    def __init__(self, *, every_iterations: Annotated[int, Ge(1)]) -> None:
        self.every_iterations = every_iterations
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._since: tuple[float, int] | None = None

    def on_train_batch_start(self, trainer: Trainer, game: Game, batch: Any, batch_index: int) -> None:  # type: ignore[override]
        """Measure speed from the first iteration on."""
        self._since = self._since or (time.perf_counter(), game.clock.images_seen)

    def on_train_batch_end(self, trainer: Trainer, game: Game, outputs: Any, batch: Any, batch_index: int) -> None:  # type: ignore[override]
        for name, value in game.scalars.items():
            # Clone: the next captured update overwrites the same tensors.
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
            self._counts[name] = self._counts.get(name, 0) + 1
        if game.clock.iteration % self.every_iterations == 0:
            self._log(trainer, game)
            self._sums, self._counts, self._since = {}, {}, (time.perf_counter(), game.clock.images_seen)

    def on_train_end(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        """Log the remaining sums, and keep them.

        A resumed run then logs the same rows as a run without this end.
        """
        if self._sums:
            self._log(trainer, game)

    def state_dict(self) -> dict[str, Any]:
        """The sums of every rank since the last row. All ranks must call this."""
        sums = ranks.gather(torch.stack(list(self._sums.values()))) if self._sums else []
        return {"names": list(self._sums), "sums": sums, "counts": dict(self._counts)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore this rank's sums. Speed is measured anew."""
        own = state_dict["sums"][ranks.rank()].unbind() if state_dict["sums"] else ()
        self._sums, self._counts = dict(zip(state_dict["names"], own, strict=True)), state_dict["counts"]

    def _log(self, trainer: Trainer, game: Game) -> None:
        means = {name: total / self._counts[name] for name, total in self._sums.items()} | game.report()
        values = dict(
            zip(means, ranks.mean(torch.stack([value.float().to(game.device) for value in means.values()])).tolist(), strict=True)
        )
        check_finite(game)
        if self._since is not None:
            values["images_per_second"] = (game.clock.images_seen - self._since[1]) / (time.perf_counter() - self._since[0])
        log_scalars(trainer, values, game.clock.images_seen)


def check_finite(game: Game) -> None:
    """Raise NumericsError if a gradient was not finite. Such a gradient is never applied."""
    if not bool(game.finite):
        raise NumericsError(
            f"a gradient was not finite in an iteration before {game.clock.images_seen:,} images seen; it was not applied, and the checkpoints are intact. "
            "Try lower learning rates (optimizer.generator.lr, optimizer.discriminator.lr), precision=fp32, or a trick that bounds D's slope (r1)"
        )
