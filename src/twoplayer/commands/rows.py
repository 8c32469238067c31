"""Runs that were trained, and the rows of tables that they make."""

import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from twoplayer.errors import ConfigurationError
from twoplayer.metrics import recorded
from twoplayer.overrides import FREE, is_free, setting_of, without
from twoplayer.paths import CONF
from twoplayer.settings import family, leaves, written
from twoplayer.storage.run_folder import read_config, read_overrides, read_summary

STUDY = "study.json"
"""The file in the folder of a study that says what it asks, and how it was called."""
PLAIN = "as it is"
"""The title of a row whose command sets nothing that distinguishes it."""


class Run(NamedTuple):
    """A run, finished or not."""

    folder: Path
    asked: tuple[str, ...]
    """All overrides of its command, if they are known."""
    overrides: tuple[str, ...]
    """Those that define it; not its seed. All its settings if its command is not known."""
    name: str | None
    """The `name=` of its command, which then names its row, too."""
    data: tuple[str, ...]
    """The settings of its data: runs on other data are not compared."""
    length: tuple[str, ...]
    """Its budget: runs of other lengths are not compared, unless their costs are shown."""
    summary: dict[str, Any]


class Row(NamedTuple):
    """Runs that differ by their seeds alone."""

    title: str
    runs: list[Run]


def named(titles: list[str], name: str | None) -> int | None:
    """The row with this title, or else the only one with a setting of this value: `hinge`."""
    if name is None:
        return None
    if name in titles:
        return titles.index(name)
    having = [index for index, title in enumerate(titles) if name in (word.partition("=")[2] for word in title.split())]
    return having[0] if len(having) == 1 else None


def find(folders: str | Sequence[str], setting: str = "runs") -> list[Run]:
    """All runs in these folders, each a run folder or a sweep folder.

    Of a run that the referee has rolled back in a sweep, only the last part is among them, with the
    overrides of the first. Raises ConfigurationError, which names the `setting`, if a folder has no
    run.
    """
    found = []
    for folder in map(Path, [folders] if isinstance(folders, str) else folders):
        alone = (folder / "summary.json").is_file()
        own = {run: read_summary(run) for run in ([folder] if alone else sorted(path.parent for path in folder.glob("*/summary.json")))}
        if not own:
            raise ConfigurationError(f"{setting}={folder}: there is no run here; name the folder of a run or of a sweep")
        for run, summary in own.items():
            if alone or "rolled_back" not in summary:
                first = _first_part(run, summary)
                asked = read_overrides(first)
                config = read_config(first)
                found.append(
                    Run(run, tuple(asked or ()), _defining(config, asked), _name(asked or ()), _data(config), _length(config), summary)
                )
    return found


def study_of(folders: str | Sequence[str]) -> dict[str, Any]:
    """What study.json says, if there is one folder, and it is that of a study."""
    every = [folders] if isinstance(folders, str) else folders
    file = Path(every[0]) / STUDY
    return json.loads(file.read_text()) if len(every) == 1 and file.is_file() else {}


def _first_part(run: Path, summary: Mapping[str, Any]) -> Path:
    """The run that was rolled back to this one, if it is still beside it."""
    while "rollback" in summary:
        before = run.with_name(Path(summary["rollback"]["from"]).name)
        if not (before / "summary.json").is_file():
            break
        run, summary = before, read_summary(before)
    return run


def _defining(config: Mapping[str, Any], asked: Sequence[str] | None) -> tuple[str, ...]:
    if asked is None:  # two unknown commands are not one
        asked = [f"{name}={written(value)}" for name, value in leaves(config)]
    return tuple(word for word in without(asked, "search", "seed") if not is_free(setting_of(word)))


def _name(asked: Sequence[str]) -> str | None:
    return next((word.partition("=")[2] for word in asked if setting_of(word) == "name"), None)


def _data(config: Mapping[str, Any]) -> tuple[str, ...]:
    data = config.get("data") or {}
    left_out = {"batch_size", *(key.removeprefix("data.") for key in FREE if key.startswith("data."))}
    # Where the files are does not matter for data of known content, whose yaml names a place.
    choice = CONF / "data" / f"{family(data) if data else ''}.yaml"
    if not choice.is_file() or OmegaConf.is_missing(OmegaConf.load(choice), "root"):
        left_out -= {"root", "file"}
    settings = [f"data.{key}={written(value)}" for key, value in leaves(data) if key not in left_out and key != "_target_"]
    return (f"data={family(data)}" if data else "", *settings)


def _length(config: Mapping[str, Any]) -> tuple[str, ...]:
    budget = config.get("budget") or {}
    return tuple(f"budget.{name}={written(budget.get(name))}" for name in ("images", "seconds"))


def boards(runs: Sequence[Run], any_length: bool = False) -> list[tuple[str, list[Row]]]:
    """The rows of each table, and what sets it apart from the other tables.

    With `any_length`, runs of different budgets are in one table, but not in one row.

    Raises ConfigurationError if scores in one table were computed by different protocols.
    """
    places = [run.data if any_length else (*run.data, *run.length) for run in runs]
    shared, everywhere = set.intersection(*map(set, places)), _common(runs)
    tables = [
        (
            ", ".join(part for part in place if part not in shared),
            name_rows([run for run, its_place in zip(runs, places, strict=True) if its_place == place], everywhere),
        )
        for place in dict.fromkeys(places)
    ]
    for _, rows in tables:
        _refuse_protocols(rows)
    return tables


def _common(runs: Sequence[Run]) -> set[str]:
    """The overrides that all of several different runs have."""
    different = {run.overrides for run in runs}
    return set.intersection(*map(set, different)) if len(different) > 1 else set()


def name_rows(runs: Sequence[Run], everywhere: Set[str] = frozenset()) -> list[Row]:
    """Runs by their overrides, each row named by those that are not common to all.

    `everywhere` are those that the rows of other tables have, too. If the command of each run has a
    `name=`, and no two rows have the same one, that names the row. Rows that differ by their
    budgets alone are named by these, too.
    """
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.overrides, run.length), []).append(run)
    given = [own[0].name for own in groups.values()]
    if len({name for name in given if name is not None}) == len(groups) > 1:
        return [Row(str(own[0].name), own) for own in groups.values()]
    by_length = len(groups) > 1 and len({run.overrides for run in runs}) == 1
    common = ({*runs[0].overrides} if by_length else _common(runs)) | everywhere
    rows = []
    for (overrides, length), own in groups.items():
        others = [its_length for its_overrides, its_length in groups if its_overrides == overrides]
        words = [
            *(word for word in overrides if word not in common),
            *(word for word in length if any(word not in other for other in others)),
        ]
        rows.append(Row(" ".join(words) or PLAIN, own))
    return rows


def reference_of(rows: Sequence[Row], baseline: str | None) -> Row | None:
    """The row that `baseline` names, as in `named`."""
    number = named([row.title for row in rows], baseline)
    return None if number is None else rows[number]


def refuse_baseline(tables: Sequence[tuple[str, list[Row]]], baseline: str | None) -> None:
    """Raise ConfigurationError if no table has the row."""
    if baseline is not None and all(reference_of(rows, baseline) is None for _, rows in tables):
        available = ", ".join(row.title for _, rows in tables for row in rows)
        raise ConfigurationError(f"baseline={baseline}: there is no such row; available: {available}")


def score_names(rows: Sequence[Row]) -> list[str]:
    """The names of all scores; first comes the leading score of the first run that has scores."""
    return list(dict.fromkeys(score.name for row in rows for run in row.runs for score in recorded.read(run.summary)))


def _refuse_protocols(rows: Sequence[Row]) -> None:
    """Raise ConfigurationError if scores of the same name were computed by different protocols.

    Scores of averaged and of raw weights are comparable.
    """
    first: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for row in rows:
        for score in (score for run in row.runs for score in recorded.read(run.summary) if score.protocol):
            other, others = first.setdefault(score.name, (row.title, score.protocol))
            for key in others:
                if key != "weights" and score.protocol.get(key) != others[key]:
                    raise ConfigurationError(
                        f"runs: the {score.name} of {row.title} is not comparable with that of {other}: {key} is {score.protocol.get(key)}, "
                        f"and {others[key]} there; compare runs that were scored with the same settings"
                    )
