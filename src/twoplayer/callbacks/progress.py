"""The progress of a run: a bar on a terminal, log lines elsewhere."""

import logging
import math
import sys
import time
from collections import deque
from typing import Annotated, Any

from annotated_types import Gt
from pytorch_lightning import Callback, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from twoplayer.callbacks.scores import Scores
from twoplayer.callbacks.stopwatch import Stopwatch
from twoplayer.game.game import Game
from twoplayer.metrics import recorded

log = logging.getLogger(__name__)

RECENT_SECONDS = 5.0
"""The time over which the displayed speed is averaged."""

COLUMNS = {"loss/discriminator": "loss D", "loss/generator": "loss G", "accuracy": "D right"}


class ProgressBar(Callback):
    """Shows images seen, images/s, time left, the newest validation score, losses and D's accuracy.

    A bar on a terminal; elsewhere a log line every `seconds_between_lines`.
    """

    def __init__(self, *, seconds_between_lines: Annotated[float, Gt(0)]) -> None:
        self.seconds_between_lines = seconds_between_lines
        self._progress: Progress | None = None
        self._said_at = 0.0
        self._recent: deque[tuple[float, int]] = deque()
        self._streams: list[tuple[logging.StreamHandler[Any], Any]] = []

    def on_train_start(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        self._recent.append((time.perf_counter(), game.clock.images_seen))
        if trainer.is_global_zero and Console().is_terminal:
            columns = (
                BarColumn(max(10, Console().width - 130)),  # a narrow terminal needs the room for numbers
                _Images(Column(no_wrap=True)),
                TextColumn("{task.fields[speed]}"),
                TimeRemainingColumn(),
                _Scalars(),
            )
            self._progress = Progress(*columns, refresh_per_second=4)
            self._progress.add_task(
                "training", total=1.0, seen=game.clock.images_seen, images=_stopwatch(trainer).budget.images, speed="", scalars=""
            )
            self._progress.start()
            for handler in logging.getLogger().handlers:  # log lines then appear above the bar
                if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                    self._streams.append((handler, handler.setStream(sys.stdout)))

    def on_train_batch_end(self, trainer: Trainer, game: Game, outputs: Any, batch: Any, batch_index: int) -> None:  # type: ignore[override]
        """Update the bar, or log a line when one is due.

        The bar ends with the last iteration, before the final scores and samples.
        """
        now = time.perf_counter()
        self._recent.append((now, game.clock.images_seen))
        while len(self._recent) > 2 and now - self._recent[1][0] > RECENT_SECONDS:
            self._recent.popleft()
        ended = trainer.should_stop and self._progress is not None
        if not trainer.is_global_zero or (now - self._said_at < (0.25 if self._progress else self.seconds_between_lines) and not ended):
            return
        self._said_at = now
        stopwatch = _stopwatch(trainer)
        seen, images, seconds = game.clock.images_seen, stopwatch.budget.images, stopwatch.budget.seconds
        share = max(seen / images, stopwatch.seconds / seconds if seconds else 0.0)
        metrics = trainer.callback_metrics
        since, seen_then = self._recent[0]
        rate = (seen - seen_then) / (now - since) if now > since else 0.0
        speed = f"{rate:,.0f} images/s" if rate else ""
        own = {name: name.removeprefix("loss/") for name in metrics if name.startswith("loss/")}  # of the model
        titles = {**COLUMNS, **{name: title for name, title in own.items() if name not in COLUMNS}}
        scalars = "  ".join(
            [*_score(trainer), *(f"{title} {float(metrics[name]):.2f}" for name, title in titles.items() if name in metrics)]
        )
        if self._progress:
            self._progress.update(self._progress.task_ids[0], completed=share, seen=seen, images=images, speed=speed, scalars=scalars)
        elif speed:
            # Of the present rate, not of the mean: a run may have been suspended, or slowed down.
            left = min((images - seen) / rate, seconds - stopwatch.seconds if seconds else math.inf)
            log.info("%9s of %s images  %s  %s s left  %s", f"{seen:,}", f"{images:,}", speed, f"{left:,.0f}", scalars)
        if ended:
            self._stop()

    def on_train_end(self, trainer: Trainer, game: Game) -> None:  # type: ignore[override]
        self._stop()

    def on_exception(self, trainer: Trainer, game: Game, exception: BaseException) -> None:  # type: ignore[override]
        self._stop()

    def _stop(self) -> None:
        if self._progress:
            for handler, stream in self._streams:
                handler.setStream(stream)
            self._streams.clear()
            self._progress.stop()
            self._progress = None


def _stopwatch(trainer: Trainer) -> Stopwatch:
    return next(callback for callback in trainer.callbacks if isinstance(callback, Stopwatch))  # type: ignore[attr-defined]


def _score(trainer: Trainer) -> list[str]:
    """The newest validation score of the leading number, as text; empty before the first one."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Scores) and callback.latest:
            images_seen, scores = callback.latest
            score = next(each for each in recorded.read({"scores": callback.recorded}) if each.name in scores)
            value = scores[score.name]
            times = f" ({score.times_floor(value)})" if score.floor else ""
            return [f"{score.name}_validation {recorded.digits(value)}{times} at {images_seen:,}"]
    return []


class _Images(ProgressColumn):
    """Such as `12,800 of 300,000 images`."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.fields['seen']:,} of {task.fields['images']:,} images")


class _Scalars(ProgressColumn):
    """Score, losses and accuracy; a narrow terminal cuts these first."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["scalars"], no_wrap=True, overflow="ellipsis")
