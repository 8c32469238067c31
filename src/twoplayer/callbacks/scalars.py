"""Logs the scalars of the game, averaged over iterations, and stops at non-finite gradients.

The speed since the last row is `images_per_second_now`; that of the whole run is in summary.json.
"""

import time
from typing import Annotated, Any

from annotated_types import Ge
from pytorch_lightning import Callback, Trainer

from twoplayer.callbacks.means import Means
from twoplayer.errors import NumericsError
from twoplayer.game.game import Game
from twoplayer.loggers.base import log_scalars


class Scalars(Callback):
    """Logs the mean of each scalar every `every_iterations`.

    Between logs the scalars stay on the device, so the host does not wait for it.
    """

    def __init__(self, *, every_iterations: Annotated[int, Ge(1)]) -> None:
        self.every_iterations = every_iterations
        self._means = Means()
        self._since: tuple[float, int] | None = None

    def on_train_batch_start(self, trainer: Trainer, game: Game, batch: Any, batch_index: int) -> None:  # type: ignore[override]
        """Measure speed from the first iteration on."""
        self._since = self._since or (time.perf_counter(), game.clock.images_seen)

    def on_train_batch_end(self, trainer: Trainer, game: Game, outputs: Any, batch: Any, batch_index: int) -> None:  # type: ignore[override]
        self._means.add(game.scalars)
        if game.clock.iteration % self.every_iterations == 0:
            self._log(trainer, game)
            self._means.clear()
            self._since = (time.perf_counter(), game.clock.images_seen)

    def on_train_end(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        """Log the remaining sums, and keep them.

        A resumed run then logs the same rows as a run without this end.
        """
        if self._means:
            self._log(trainer, game)

    def state_dict(self) -> dict[str, Any]:
        """The sums of every rank since the last row. All ranks must call this."""
        return self._means.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore this rank's sums. Speed is measured anew."""
        self._means.load_state_dict(state_dict)

    def _log(self, trainer: Trainer, game: Game) -> None:
        values = self._means.read(game, game.report())
        check_finite(game)
        if self._since is not None:
            values["images_per_second_now"] = (game.clock.images_seen - self._since[1]) / (time.perf_counter() - self._since[0])
        log_scalars(trainer, values, game.clock.images_seen)


def check_finite(game: Game) -> None:
    """Raise NumericsError if a gradient was not finite. Such a gradient is never applied."""
    if not bool(game.finite):
        raise NumericsError(
            f"a gradient was not finite in an iteration before {game.clock.images_seen:,} images seen; it was not applied, and the checkpoints are intact. "
            "Try lower learning rates (optimizer.generator.lr, optimizer.discriminator.lr), precision=fp32, or a trick that bounds D's slope (r1)"
        )
