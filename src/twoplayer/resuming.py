"""Whether a run begins or goes on, in which folder, and from which checkpoint."""

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from twoplayer import checkpoint_io
from twoplayer.errors import ConfigurationError

FREE = ("budget", "checkpoint", "name", "run", "sweep", "resume", "logger", "callbacks.progress", "debug", "data.root")
"""What may differ when a run goes on: it decides how long, where and before whose eyes the game is played, and not what is played."""

BINDING_PACKAGES = ("twoplayer", "torch", "pytorch-lightning")
"""The packages whose versions decide what numbers a run gives."""


class Plan(NamedTuple):
    """Where a run is played, and what it goes on from: nothing, if `checkpoint` is None. A `finished` one has reached its budget."""

    folder: Path
    checkpoint: Path | None = None
    images_seen: int = 0
    finished: bool = False


def identity(config: DictConfig, data_sha256: str) -> dict[str, Any]:
    """What a checkpoint has to share with a run that goes on from it, as plain values."""
    return {
        "config": plain(config),
        "data_sha256": data_sha256,
        "versions": {package: version(package) for package in BINDING_PACKAGES},
    }


def plain(config: DictConfig) -> dict[str, Any]:
    """A configuration without Hydra's own part, resolved, as plain values."""
    parts = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    content: dict[str, Any] = OmegaConf.to_container(parts, resolve=True)  # type: ignore[assignment]
    return content


def plan(config: DictConfig, folder: Path, named: bool, data_sha256: str, first: bool) -> Plan:
    """What `resume=` means for a run in `folder`; `named` says that the user has named that folder. Nothing is written.

    `first` is whether this process is the one that writes for all ranks: the others may find what it has begun.

    Raises ConfigurationError where the run is not the same game, DataError where no checkpoint is whole.
    """
    ours = identity(config, data_sha256)
    if config.resume is None:
        if first and (folder / "config.yaml").exists():
            raise ConfigurationError(
                f"run={folder}: there is a run in this folder already; continue it with resume=auto, or name another folder"
            )
        return Plan(folder)
    if config.resume == "auto":
        if not named:
            folder = _newest_equal(folder, ours["config"]) or folder
        return _go_on(config, folder, ours, first)
    return _go_on_from(config, Path(config.resume), folder if named else None, ours, first)


def _go_on(config: DictConfig, folder: Path, ours: dict[str, Any], first: bool) -> Plan:
    """In the same folder, from its newest checkpoint, or from zero."""
    found = checkpoint_io.newest(folder)
    if found is None:
        if first and (folder / "config.yaml").exists():
            _refuse_another_game({"config": saved_config(folder)}, ours, f"run={folder}")
        return Plan(folder)
    path, checkpoint = found
    _refuse_another_game(_record(checkpoint, path), ours, f"run={folder}")
    return Plan(folder, path, images_seen(checkpoint), _is_finished(folder, config))


def _go_on_from(config: DictConfig, path: Path, folder: Path | None, ours: dict[str, Any], first: bool) -> Plan:
    """From one file: in its own folder where it is the newest there, else in a new one."""
    if not path.is_file():
        raise ConfigurationError(f"resume={path}: there is no such file; name a checkpoint, or write resume=auto")
    checkpoint = checkpoint_io.read(path)
    _refuse_another_game(_record(checkpoint, path), ours, f"resume={path}")
    home = path.resolve().parents[1]
    if folder is None:
        folder = home
    if folder.resolve() == home:
        newest = checkpoint_io.newest(home)
        if newest is not None and images_seen(newest[1]) > images_seen(checkpoint):
            raise ConfigurationError(
                f"resume={path}: {newest[0].name} in the same folder is newer and would be lost; name a new folder with run=, or write resume=auto"
            )
    elif first and (folder / "config.yaml").exists():
        raise ConfigurationError(f"run={folder}: there is another run in this folder; name a new one for what goes on from {path}")
    return Plan(folder, path, images_seen(checkpoint))


def images_seen(checkpoint: Mapping[str, Any]) -> int:
    """How far the game was when it was saved."""
    seen: int = checkpoint["run"]["images_seen"]
    return seen


def _record(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    if not isinstance(checkpoint.get("run"), dict):
        raise ConfigurationError(f"{path}: this file does not say which game it is of; only init_from= can use it")
    record: dict[str, Any] = checkpoint["run"]
    return record


def _is_finished(folder: Path, config: DictConfig) -> bool:
    """Whether the run has been played and scored to the end that this configuration asks for."""
    path = folder / "summary.json"
    summary = json.loads(path.read_text()) if path.exists() else {}
    spent = summary.get("images_seen", 0) >= config.budget.images
    if config.budget.seconds is not None:
        spent = spent or summary.get("seconds", 0.0) >= config.budget.seconds
    return summary.get("status") == "finished" and spent


def _newest_equal(folder: Path, config: dict[str, Any]) -> Path | None:
    """The newest run folder of an equal configuration beside the one that would be made: in outputs/<date>/, of any date, or in a sweep there."""
    outputs = folder.parents[1]
    # The folders are named by the moment at which they were made.
    candidates = sorted((path.parent for pattern in ("*/*", "*/*/*") for path in outputs.glob(f"{pattern}/config.yaml")), reverse=True)
    return next((path for path in candidates if not differences(saved_config(path), config)), None)


def saved_config(run: Path) -> dict[str, Any]:
    """The configuration that lies in a run folder, as plain values. Raises ConfigurationError where it is not one."""
    path = run / "config.yaml"
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:
        raise ConfigurationError(f"{path} is not a configuration that can be read ({' '.join(str(error).split())[:100]})") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} is not a configuration")
    return content  # type: ignore[return-value]


def _refuse_another_game(theirs: dict[str, Any], ours: dict[str, Any], what: str) -> None:
    different = differences(theirs["config"], ours["config"])
    if "data_sha256" in theirs:
        if theirs["data_sha256"] != ours["data_sha256"]:
            different.append("the training images are not the same")
        different += [
            f"{package} is {now}, was {theirs['versions'].get(package)}"
            for package, now in ours["versions"].items()
            if now != theirs["versions"].get(package)
        ]
    if different:
        raise ConfigurationError(
            f"{what}: a run goes on with the game that it began, and {'; '.join(different)}. To start from its weights on purpose: init_from=<its folder>"
        )


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """The settings that are not the same, but for those that are free to change."""
    then, now = dict(_leaves(theirs)), dict(_leaves(ours))
    return [
        f"{key} is {now.get(key, 'absent')}, was {then.get(key, 'absent')}"
        for key in sorted(then.keys() | now.keys())
        if then.get(key, ...) != now.get(key, ...) and not any(f"{key}.".startswith(f"{free}.") for free in FREE)
    ]


def _leaves(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
