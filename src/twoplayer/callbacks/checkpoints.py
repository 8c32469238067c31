"""Saves the whole game: every so many images or seconds, at a new best score, at the end, and when a signal asks the run to end."""

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
    """Keeps the newest two states in `checkpoints/`, and the one with the best validation score. `identity` is what a run that goes on
    from one has to share with this one, `memories` what loggers remember of earlier processes.
    """

    def __init__(self, schedule: Checkpoint, identity: dict[str, Any], memories: dict[str, dict[str, Any]]) -> None:
        self.schedule, self.identity, self.memories = schedule, identity, memories
        self._saved_at = time.perf_counter()
        self._saved_iteration = -1
        self._vote = ranks.Vote()

    def on_train_start(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        """All ranks begin at the same place, and the folder is put in order."""
        places = ranks.gather(torch.tensor(game.clock.images_seen, device=game.device))
        if any(int(place) != game.clock.images_seen for place in places):
            raise TwoplayerError(
                f"the ranks begin at different places ({', '.join(str(int(place)) for place in places)} images seen): their folders are not the same"
            )
        if trainer.is_global_zero:
            checkpoints.tidy(Path(trainer.default_root_dir), game.clock.images_seen)

    def on_train_batch_end(self, trainer: Trainer, game: Game, outputs: Any, batch: Any, batch_index: int) -> None:  # type: ignore[override]
        """What all callbacks before this one have to say of this iteration is part of what is saved."""
        late = self.schedule.every_seconds is not None and time.perf_counter() - self._saved_at >= self.schedule.every_seconds
        number, overdue = self._vote.cast(signals.received(), late, wait=trainer.should_stop)
        overdue = overdue and game.clock.iteration > self._saved_iteration + 1  # asked before that save, answered after it
        due = self.schedule.every_images is not None and game.clock.crossed(self.schedule.every_images)
        if due or overdue or number or trainer.should_stop or self._is_best(trainer, game):
            self._save(trainer, game)
        if number:
            raise Interruption(
                number,
                f"ended by {signal.Signals(number).name} at {game.clock.images_seen:,} images seen, and saved in {shown(Path(trainer.default_root_dir))}; "
                "the run goes on with resume=auto",
            )

    def on_train_end(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        """Once more, with its scores."""
        self._save(trainer, game)

    def on_save_checkpoint(self, trainer: Trainer, game: Game, checkpoint: dict[str, Any]) -> None:  # type: ignore[override]
        """Say which game this is, and how far it is."""
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
            checkpoints.keep(folder, plugin.last.path if self._is_best(trainer, game) else None)
            summarize(trainer, {"checkpoint": {"file": plugin.last.path.name, "bytes": plugin.last.bytes, "seconds": plugin.last.seconds}})
        self._saved_at, self._saved_iteration = time.perf_counter(), game.clock.iteration


def _check_weights(game: Game) -> None:
    """A step can take weights out of what a float can hold without any gradient telling of it: nothing of that is written over what is good."""
    spoiled = [name for name, tensor in game.state_dict().items() if isinstance(tensor, torch.Tensor) and not bool(tensor.isfinite().all())]
    if ranks.mean(torch.tensor(float(bool(spoiled)), device=game.device)) > 0:
        raise NumericsError(
            f"{spoiled[0] if spoiled else 'a weight of another rank'} is not finite at {game.clock.images_seen:,} images seen; what is saved is from before. "
            "Try lower learning rates (optimizer.generator.lr, optimizer.discriminator.lr)"
        )
