"""Saves checkpoints on a schedule, at a new best score, at the end, and on a signal."""

import signal
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from twoplayer import signals
from twoplayer.callbacks.scalars import check_finite
from twoplayer.callbacks.scores import Scores
from twoplayer.config.schema import Checkpoint
from twoplayer.distributed import ranks
from twoplayer.errors import NumericsError, TwoplayerError
from twoplayer.game.game import Game
from twoplayer.loggers.base import RunLogger, summarize
from twoplayer.paths import shown
from twoplayer.signals import Interruption
from twoplayer.storage import checkpoints
from twoplayer.storage.checkpoints import DurableCheckpoints


class Checkpoints(Callback):
    """Keeps the newest checkpoints and the one with the best validation score.

    `identity` holds the settings that a resumed run must share with this one. `memories` holds what
    the loggers of earlier processes saved for a resume, by logger class.
    """

    def __init__(self, schedule: Checkpoint, identity: dict[str, Any], memories: dict[str, dict[str, Any]]) -> None:
        self.schedule, self.identity, self.memories = schedule, identity, memories
        self._saved_at = time.perf_counter()
        self._saved_iteration = -1
        self._vote = ranks.Vote()

    def on_train_start(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        """Check that all ranks start from the same checkpoint, then tidy the folder."""
        places = ranks.gather(torch.tensor(game.clock.images_seen, device=game.device))
        if any(int(place) != game.clock.images_seen for place in places):
            raise TwoplayerError(
                f"the ranks start from different checkpoints ({', '.join(str(int(place)) for place in places)} images seen): "
                "they do not share one run folder; name a folder that all ranks can read with run=<folder>"
            )
        if trainer.is_global_zero:
            checkpoints.tidy(Path(trainer.default_root_dir), game.clock.images_seen)

    def on_train_batch_end(self, trainer: Trainer, game: Game, outputs: Any, batch: Any, batch_index: int) -> None:  # type: ignore[override]
        """Runs last, so the checkpoint includes the other callbacks' state."""
        late = self.schedule.every_seconds is not None and time.perf_counter() - self._saved_at >= self.schedule.every_seconds
        number, overdue = self._vote.cast(signals.received(), late, wait=trainer.should_stop)
        overdue = overdue and game.clock.iteration > self._saved_iteration + 1  # voted before the last save, counted after it
        due = self.schedule.every_images is not None and game.clock.crossed(self.schedule.every_images)
        if due or overdue or number or trainer.should_stop or self._is_best(trainer, game):
            self._save(trainer, game)
        if number:
            raise Interruption(
                number,
                f"ended by {signal.Signals(number).name} at {game.clock.images_seen:,} images seen and saved in {shown(Path(trainer.default_root_dir))}; "
                "resume it with resume=auto",
            )

    def on_train_end(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        """Save once more, now with the final scores."""
        self._save(trainer, game)

    def on_save_checkpoint(self, trainer: Trainer, game: Game, checkpoint: dict[str, Any]) -> None:  # type: ignore[override]
        """Add the entry `run`: identity, images seen, threads, and the memories of loggers."""
        self.memories |= {type(logger).__name__: logger.memory for logger in trainer.loggers if isinstance(logger, RunLogger)}
        checkpoint["run"] = {
            **self.identity,
            "images_seen": game.clock.images_seen,
            "threads": torch.get_num_threads(),
            "loggers": self.memories,
        }

    def _is_best(self, trainer: Trainer, game: Game) -> bool:
        return any(isinstance(callback, Scores) and callback.best_at == game.clock.images_seen for callback in trainer.callbacks)  # type: ignore[attr-defined]

    def _save(self, trainer: Trainer, game: Game) -> None:
        check_finite(game)
        _check_weights(game)
        folder = Path(trainer.default_root_dir)
        trainer.save_checkpoint(folder / checkpoints.FOLDER / f"{game.clock.images_seen:08}.ckpt")
        if trainer.is_global_zero:
            plugin = trainer.strategy.checkpoint_io
            assert isinstance(plugin, DurableCheckpoints)
            assert plugin.last is not None
            checkpoints.keep(folder, plugin.last.path if self._is_best(trainer, game) else None, self.schedule.keep)
            summarize(trainer, {"checkpoint": {"file": plugin.last.path.name, "bytes": plugin.last.bytes, "seconds": plugin.last.seconds}})
        self._saved_at, self._saved_iteration = time.perf_counter(), game.clock.iteration


def _check_weights(game: Game) -> None:
    """Raise NumericsError on all ranks if the state of any rank is not finite.

    A finite gradient can still move a weight out of float range. Such a state is never saved.
    """
    spoiled = [name for name, tensor in game.state_dict().items() if isinstance(tensor, torch.Tensor) and not bool(tensor.isfinite().all())]
    if ranks.mean(torch.tensor(float(bool(spoiled)), device=game.device)) > 0:
        raise NumericsError(
            f"{spoiled[0] if spoiled else 'a weight of another rank'} is not finite at {game.clock.images_seen:,} images seen; this state is not saved, and earlier checkpoints are intact. "
            "Try lower learning rates (optimizer.generator.lr, optimizer.discriminator.lr)"
        )
