"""A logger that leaves what it is told at the start of a run."""

import json
from pathlib import Path
from typing import Any

from twoplayer.loggers.base import History, RunLogger


class Told(RunLogger):
    """Writes told.json into the run folder."""

    name, version = "told", ""

    def start(self, folder: Path, name: str, group: str, tags: list[str], config: dict[str, Any], history: History | None) -> None:
        (folder / "told.json").write_text(json.dumps({"name": name, "group": group, "tags": tags, "config": config}))

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        pass
