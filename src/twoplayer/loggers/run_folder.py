"""What every run leaves in its own folder: metrics.csv and summary.json."""

import csv
import json
import math
import os
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only

from twoplayer.loggers.base import RunLogger


class RunFolder(RunLogger):
    """Writes metrics.csv, one row per moment at which something was logged, and summary.json."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.summary: dict[str, Any] = {}
        self._columns: list[str] = ["images_seen"]
        self._rows: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def version(self) -> str:
        """A run has one version."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add to the row of this moment; a new column has the file written anew, with a wider header."""
        if not self._rows or self._rows[-1]["images_seen"] != step:
            self._rows.append({"images_seen": step})
        row = self._rows[-1]
        again = len(row) > 1
        row.update(metrics)
        new = [name for name in metrics if name not in self._columns]
        self._columns += new
        path = self.folder / "metrics.csv"
        if new or again:
            temporary = path.with_suffix(".csv.new")
            with temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, self._columns)
                writer.writeheader()
                writer.writerows(self._rows)
            os.replace(temporary, path)
        else:
            with path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)

    @rank_zero_only
    def summarize(self, values: dict[str, Any]) -> None:
        """Write the summary, as it is now known."""
        self.summary |= values
        temporary = self.folder / "summary.json.new"
        temporary.write_text(json.dumps(_plain(self.summary), indent=2) + "\n")
        os.replace(temporary, self.folder / "summary.json")


def _plain(value: Any) -> Any:
    """JSON has no word for what is not finite."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
