"""The files of a run folder that people and programs read: metrics.csv, summary.json and config.yaml."""

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from twoplayer.errors import ConfigurationError

METRICS = "metrics.csv"
SUMMARY = "summary.json"
CONFIG = "config.yaml"


def write_rows(folder: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace metrics.csv."""
    temporary = folder / f"{METRICS}.new"
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, folder / METRICS)


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Replace summary.json."""
    temporary = folder / f"{SUMMARY}.new"
    temporary.write_text(json.dumps(_finite(summary), indent=2) + "\n")
    os.replace(temporary, folder / SUMMARY)


def write_config(folder: Path, config: DictConfig) -> None:
    """Replace config.yaml."""
    temporary = folder / f"{CONFIG}.new"
    OmegaConf.save(config, temporary)
    os.replace(temporary, folder / CONFIG)


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a run, as plain values. Raises ConfigurationError where it cannot be read."""
    path = folder / CONFIG
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:
        raise ConfigurationError(f"{path} is not a configuration that can be read ({' '.join(str(error).split())[:100]})") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} is not a configuration")
    return content  # type: ignore[return-value]


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a run; nothing where there is none, or none that can be read."""
    try:
        content = json.loads((folder / SUMMARY).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_rows(folder: Path, images_seen: int) -> list[dict[str, Any]]:
    """The rows of a run's metrics.csv up to this moment, without empty cells; a row that a killed process has left half is left out."""
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
    """Numbers that are not finite as text: JSON has no form for them."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
