"""Weights & Biases: one run of its own per game, finished with the state that the game ended in."""

import netrc
import os
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only

from twoplayer.errors import ConfigurationError
from twoplayer.loggers.base import RunLogger


class WeightsAndBiases(RunLogger):
    """Scalars and pictures over images seen. `mode` is offline (files in the run folder, no account) or online."""

    def __init__(self, *, project: str, entity: str | None, mode: Literal["offline", "online"]) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"project": project, "entity": entity, "mode": mode}
        self.run: Any = None

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Online without a key: W&B would ask on the terminal, or fail after the run has begun."""
        if config.logger.wandb.mode == "online" and not _has_key():
            raise ConfigurationError(
                "logger=wandb_online: there is no W&B key; set WANDB_API_KEY or run `uv run wandb login`, or use logger=wandb, which needs none"
            )

    @rank_zero_only
    def begin(self, folder: Path, name: str, group: str, tags: list[str], config: dict[str, Any]) -> None:
        """Start the W&B run."""
        import wandb

        quiet = wandb.Settings(silent=True, console="off")
        self.run = wandb.init(
            dir=folder, name=name, group=group, tags=tags, config=config, reinit="create_new", settings=quiet, **self.settings
        )
        self.run.define_metric("images_seen", hidden=True)
        self.run.define_metric("*", step_metric="images_seen")

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.run.name)

    @property
    def version(self) -> str:
        """The run's id."""
        return str(self.run.id)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Scalars at one moment."""
        self.run.log({**metrics, "images_seen": step})

    @rank_zero_only
    def log_picture(self, name: str, path: Path, images_seen: int) -> None:
        """A PNG file, under a name that has a slider over the moments."""
        import wandb

        self.run.log({name: wandb.Image(str(path), caption=f"{images_seen:,} images seen"), "images_seen": images_seen})

    @rank_zero_only
    def summarize(self, values: dict[str, Any]) -> None:
        """What stands beside the run in a table of runs."""
        self.run.summary.update({name: value for name, value in values.items() if not isinstance(value, dict | list)})

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Finish, so that the next job of a multirun gets a run of its own, and a failed one looks failed."""
        if self.run is not None:
            self.run.finish(exit_code=0 if status in ("success", "finished") else 1)
            self.run = None


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return host is not None and netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
