"""What every run leaves in its own folder: metrics.csv and summary.json."""

import csv
import json
import math
import os
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only

from twoplayer.loggers.base import History, RunLogger

FILE = "metrics.csv"


class RunFolder(RunLogger):
    """Writes metrics.csv, one row per moment at which something was logged, and summary.json."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.summary: dict[str, Any] = {}
        self._columns: list[str] = ["images_seen"]
        self._rows: list[dict[str, Any]] = []

    @rank_zero_only
    def begin(self, folder: Path, name: str, group: str, tags: list[str], config: dict[str, Any], history: History | None) -> None:
        """Leave out what was logged after the moment from which the run goes on: it will be logged again."""
        if history is not None:
            self._rows = history.rows
            self._columns = list(dict.fromkeys(["images_seen", *(column for row in history.rows for column in row)]))
            self._write()
            self.summary = read_summary(folder)
        else:
            (folder / FILE).unlink(missing_ok=True)

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
        if new or again:
            self._write()
        else:
            with (self.folder / FILE).open("a", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)

    def _write(self) -> None:
        temporary = self.folder / f"{FILE}.new"
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self._rows)
        os.replace(temporary, self.folder / FILE)

    @rank_zero_only
    def summarize(self, values: dict[str, Any]) -> None:
        """Write the summary, as it is now known."""
        self.summary |= values
        temporary = self.folder / "summary.json.new"
        temporary.write_text(json.dumps(_plain(self.summary), indent=2) + "\n")
        os.replace(temporary, self.folder / "summary.json")


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a run; nothing where there is none, or none that can be read."""
    try:
        content = json.loads((folder / "summary.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_rows(folder: Path, images_seen: int) -> list[dict[str, Any]]:
    """The rows of a run's metrics.csv up to this moment, without empty cells; a row that a killed process has left half is left out."""
    rows: list[dict[str, Any]] = []
    path = folder / FILE
    if path.exists():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                moment = row["images_seen"]
                if not moment.isdigit() or int(moment) > images_seen or (rows and int(moment) <= rows[-1]["images_seen"]):
                    continue
                rows.append(
                    {"images_seen": int(moment)} | {name: _number(cell) for name, cell in row.items() if cell and name != "images_seen"}
                )
    return rows


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def _plain(value: Any) -> Any:
    """JSON has no word for what is not finite."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
