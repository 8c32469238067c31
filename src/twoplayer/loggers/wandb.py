"""Weights & Biases: one W&B run per run, finished with the exit status of the run."""

import logging
import netrc
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only

from twoplayer.errors import ConfigurationError
from twoplayer.loggers.base import History, RunLogger
from twoplayer.settings import short
from twoplayer.storage import checkpoints

log = logging.getLogger(__name__)

LINES = "train.log"
"""The file with what the terminal showed. W&B's own capture would swallow the progress bar."""


class WeightsAndBiases(RunLogger):
    """Logs scalars and pictures over images seen.

    `mode` is offline (files in the run folder, no account) or online.

    A resumed run is the same W&B run. Offline, W&B cannot append to the files of an earlier
    process, and an upload replaces earlier uploads of the same id. The present process therefore
    logs the history again first, so that its own W&B folder holds the whole run.
    """

    def __init__(self, *, project: str, entity: str | None, mode: Literal["offline", "online"]) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"project": project, "entity": entity, "mode": mode}
        self.run: Any = None
        self._id: str | None = None
        self._folder: Path | None = None
        self._facts: set[str] = set()

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse online mode without a key: W&B would prompt, or fail after the run has started."""
        if config.logger.wandb.mode == "online" and not _has_key():
            raise ConfigurationError(
                "logger=wandb_online: there is no W&B key; set WANDB_API_KEY or run `uv run wandb login`, or use logger=wandb, which needs none"
            )

    @rank_zero_only
    def start(self, folder: Path, name: str, group: str, tags: list[str], config: dict[str, Any], history: History | None) -> None:
        import wandb

        quiet = wandb.Settings(silent=True, console="off")
        known = history.memories.get(type(self).__name__, {}) if history else {}
        online = self.settings["mode"] == "online"
        same = {"id": known["id"], **({"resume": "allow"} if online else {})} if known else {}
        self.run = wandb.init(
            dir=folder,
            name=name,
            group=group,
            tags=tags,
            config=short(config),
            reinit="create_new",
            settings=quiet,
            **self.settings,
            **same,
        )
        self._id, self._folder = self.run.id, folder
        self.run.define_metric("images_seen", hidden=True)
        self.run.define_metric("*", step_metric="images_seen")
        if history and not (online and known.get("mode") == "online"):  # which the server has
            self._replay(history)

    @property
    def memory(self) -> dict[str, Any]:
        return {} if self._id is None else {"id": self._id, "mode": self.settings["mode"]}

    def _replay(self, history: History) -> None:
        """Log the rows and pictures of earlier processes again, in their original order."""
        entries: list[tuple[int, Any]] = [(row["images_seen"], row) for row in history.rows] + list(history.pictures)
        for moment, entry in sorted(entries, key=lambda item: item[0]):
            if isinstance(entry, Path):
                self.log_picture("samples", entry, moment)
            else:
                self.log_metrics(entry, moment)

    @property
    def name(self) -> str:
        return "wandb"

    @property
    def version(self) -> str:
        return self._id or ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """W&B drops scalars logged at a step below its newest one."""
        self._tell(lambda run: run.log({**metrics, "images_seen": step}, step=step))

    @rank_zero_only
    def log_picture(self, name: str, path: Path, images_seen: int) -> None:
        """W&B shows all pictures of one name with a slider over the steps."""
        import wandb

        def log_image(run: Any) -> None:
            run.log({name: wandb.Image(str(path), caption=f"{images_seen:,} images seen"), "images_seen": images_seen}, step=images_seen)

        self._tell(log_image)

    @rank_zero_only
    def alert(self, title: str, text: str) -> None:
        self._tell(lambda run: run.alert(title, text, level="WARN"))

    @rank_zero_only
    def summarize(self, values: dict[str, Any]) -> None:
        """Add columns to W&B's table of runs.

        These are plain values, and the numbers of each score (`fd`, `fd_floor`, ...).
        """
        facts = {name: value for name, value in values.items() if not isinstance(value, dict | list)}
        self._facts |= facts.keys()
        self._tell(lambda run: run.summary.update({**facts, **_columns(values.get("scores") or {}, self._facts)}))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Finish the W&B run: the next job of a multirun gets its own, and a failure is marked.

        What the terminal showed is among its files. Online, the best checkpoint becomes an
        artifact; offline it stays in the run folder alone.
        """
        finished = status in ("success", "finished")
        if self._folder is not None and (self._folder / LINES).is_file():
            lines = self._folder / LINES
            self._tell(lambda run: shutil.copy(lines, run.dir))  # W&B uploads what lies there
        if finished and self.settings["mode"] == "online":
            self._tell(self._store_best)
        self._tell(lambda run: run.finish(exit_code=0 if finished else 1))
        self.run = None

    def _store_best(self, run: Any) -> None:
        import wandb

        best = next((each for each in checkpoints.saved_files(self._folder) if each.best), None) if self._folder else None
        if best is not None:
            artifact = wandb.Artifact(f"best-{self._id}", type="model", metadata={"images_seen": best.images_seen})
            artifact.add_file(str(best.path))
            run.log_artifact(artifact)

    def _tell(self, action: Callable[[Any], object]) -> None:
        """Run `action` on the W&B run. If it fails, warn once and continue without W&B.

        W&B works in a separate process, which a signal or the system may end before this one.
        """
        if self.run is None:
            return
        try:
            action(self.run)
        except Exception as error:
            self.run = None
            log.warning("W&B has ended (%s); the run continues without it, and metrics.csv and samples/ hold everything", error)


def _columns(scores: Mapping[str, Mapping[str, Any]], taken: Collection[str]) -> dict[str, float]:
    """The numbers of all scores by flat names.

    A score that shares its name with another fact of the run, such as `precision`, becomes
    `<name>_value`.
    """
    return {
        f"{name}_{part}" if part != "value" or name in taken else name: number
        for name, entry in scores.items()
        for part, number in entry.items()
        if isinstance(number, int | float)
    }


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return host is not None and netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
