"""Writes metrics.csv and summary.json into the run folder."""

import csv
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only

from twoplayer.loggers.base import History, RunLogger
from twoplayer.storage import run_folder


class RunFolder(RunLogger):
    """Writes metrics.csv, with one row per step at which something is logged, and summary.json."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.summary: dict[str, Any] = {}
        self._columns: list[str] = ["images_seen"]
        self._rows: list[dict[str, Any]] = []

    @rank_zero_only
    def start(self, folder: Path, name: str, group: str, tags: list[str], config: dict[str, Any], history: History | None) -> None:
        """Drop the rows after the checkpoint that the run resumes from: they are logged again."""
        if history is not None:
            self._rows = history.rows
            self._columns = list(dict.fromkeys(["images_seen", *(column for row in history.rows for column in row)]))
            self._write()
            self.summary = run_folder.read_summary(folder)
        else:
            (folder / run_folder.METRICS).unlink(missing_ok=True)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add to the row of this step. A new column rewrites the file with a wider header."""
        if not self._rows or self._rows[-1]["images_seen"] != step:
            self._rows.append({"images_seen": step})
        row = self._rows[-1]
        again = len(row) > 1
        row.update(metrics)
        new = [name for name in metrics if name not in self._columns]
        self._columns += new
        if new or again:
            self._write()
        else:
            with (self.folder / run_folder.METRICS).open("a", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)

    def _write(self) -> None:
        run_folder.write_rows(self.folder, self._columns, self._rows)

    @rank_zero_only
    def summarize(self, values: dict[str, Any]) -> None:
        self.summary |= values
        run_folder.write_summary(self.folder, self.summary)
