"""Reading and writing metrics.csv, summary.json and config.yaml in a run folder."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from twoplayer.errors import ConfigurationError
from twoplayer.paths import replacing

METRICS = "metrics.csv"
SUMMARY = "summary.json"
CONFIG = "config.yaml"
SEARCH = "search.db"
"""The database of a search, in the folder of its runs."""


def write_rows(folder: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace metrics.csv atomically."""
    with replacing(folder / METRICS) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Replace summary.json atomically; numbers that are not finite become text."""
    with replacing(folder / SUMMARY) as temporary:
        temporary.write_text(json.dumps(_finite(summary), indent=2) + "\n")


def write_config(folder: Path, config: DictConfig) -> None:
    """Replace config.yaml atomically."""
    with replacing(folder / CONFIG) as temporary:
        OmegaConf.save(config, temporary)


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.yaml as plain values, with references unresolved.

    Raises ConfigurationError if the file cannot be read.
    """
    path = folder / CONFIG
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:
        raise ConfigurationError(f"{path} cannot be read as a configuration ({' '.join(str(error).split())[:100]})") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} is not a configuration")
    return content  # type: ignore[return-value]


def read_summary(folder: Path) -> dict[str, Any]:
    """Read summary.json; an empty dict if it is missing or unreadable."""
    try:
        content = json.loads((folder / SUMMARY).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def has_begun(folder: Path) -> bool:
    """Whether the run in a folder has begun to train."""
    return "images_seen" in read_summary(folder)


def read_overrides(folder: Path) -> list[str] | None:
    """The overrides of the command that trained the run; None if they are not known.

    Hydra writes them; a run that no command of its own began, as in a notebook or after a rollback,
    has them in summary.json.
    """
    try:
        return list(map(str, OmegaConf.load(folder / ".hydra" / "overrides.yaml")))
    except Exception:  # missing, or cut off
        known = read_summary(folder).get("overrides")
        return None if known is None else list(map(str, known))


def read_rows(folder: Path, images_seen: float = math.inf) -> list[dict[str, Any]]:
    """Read the rows of metrics.csv up to `images_seen`, without empty cells.

    Skips rows that are out of order or cut off, as a killed process can leave them.
    """
    rows: list[dict[str, Any]] = []
    path = folder / METRICS
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


def _finite(value: Any) -> Any:
    """Replace numbers that are not finite by text, since JSON cannot hold them."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
