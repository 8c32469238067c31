"""Whether a run begins or goes on, in which folder, and from which checkpoint."""

import logging
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf

from twoplayer.config.check import leaves
from twoplayer.data.base import ImageData
from twoplayer.errors import ConfigurationError
from twoplayer.game.engine import resolve_engine, resolve_precision
from twoplayer.loggers.run_folder import read_summary
from twoplayer.storage import checkpoints, lock

log = logging.getLogger(__name__)

FREE = ("budget", "checkpoint", "name", "run", "sweep", "resume", "logger", "callbacks.progress", "debug", "data.root", "threads")
"""What may differ when a run goes on: it decides how long, where and before whose eyes the game is played, and not what is played."""

SWEEP_FILE = "multirun.yaml"
"""What Hydra writes into the folder of a sweep."""

BINDING_PACKAGES = ("twoplayer", "torch", "pytorch-lightning")
"""The packages whose versions decide what numbers a run gives."""


class Plan(NamedTuple):
    """Where a run is played, and what it goes on from: nothing, if `checkpoint` is None. A `finished` one has reached its budget;
    `memories` is what its loggers have asked to remember, and `threads` how many it has computed with.
    """

    folder: Path
    checkpoint: Path | None = None
    images_seen: int = 0
    finished: bool = False
    threads: int | None = None
    memories: Mapping[str, dict[str, Any]] = MappingProxyType({})


def identity(config: DictConfig, data: ImageData, device: torch.device) -> dict[str, Any]:
    """What a checkpoint has to share with a run that goes on from it, as plain values; `auto` means what it has come to here."""
    return {
        "config": plain(config),
        "data_sha256": data.sha256,
        "computed": {
            "device": device.type,
            "precision": resolve_precision(config.precision, device),
            "engine": resolve_engine(config.engine).name,
        },
        "versions": {package: version(package) for package in BINDING_PACKAGES},
    }


def plain(config: DictConfig) -> dict[str, Any]:
    """A configuration without Hydra's own part, resolved, as plain values."""
    parts = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    content: dict[str, Any] = OmegaConf.to_container(parts, resolve=True)  # type: ignore[assignment]
    return content


def plan(config: DictConfig, folder: Path, named: bool, ours: dict[str, Any], first: bool) -> Plan:
    """What `resume=` means for a run of identity `ours` in `folder`; `named` says that the user has named that folder. Nothing is written.

    `first` is whether this process is the one that writes for all ranks: the others may find what it has begun.

    Raises ConfigurationError where the run is not the same game, DataError where no checkpoint is whole.
    """
    if config.resume is None:
        if first and (folder / "config.yaml").exists():
            raise ConfigurationError(
                f"run={folder}: there is a run in this folder already; continue it with resume=auto, or name another folder"
            )
        return Plan(folder)
    if config.resume == "auto":
        if not named:
            folder = _newest_unfinished(folder, ours["config"]) or folder
        return _go_on(config, folder, ours, first)
    return _go_on_from(config, Path(config.resume), folder if named else None, ours, first)


def _go_on(config: DictConfig, folder: Path, ours: dict[str, Any], first: bool) -> Plan:
    """In the same folder, from its newest checkpoint, or from zero."""
    found = checkpoints.newest(folder)
    if found is None:
        if first and (folder / "config.yaml").exists():
            _refuse_another_game({"config": saved_config(folder)}, ours, f"run={folder}")
        return Plan(folder)
    path, checkpoint = found
    _refuse_another_game(_record(checkpoint, path), ours, f"run={folder}")
    seen, finished = images_seen(checkpoint), _is_finished(folder, config)
    if seen - config.data.batch_size >= config.budget.images and not finished:  # there would be nothing to do but to call it finished
        raise ConfigurationError(
            f"budget.images={config.budget.images}: the run in {folder} has seen {seen:,} images already; set a larger budget"
        )
    return Plan(folder, path, seen, finished, checkpoint["run"].get("threads"), checkpoint["run"]["loggers"])


def _go_on_from(config: DictConfig, path: Path, folder: Path | None, ours: dict[str, Any], first: bool) -> Plan:
    """From one file: in its own folder where it is the newest there, else in a new one."""
    if not path.is_file():
        raise ConfigurationError(f"resume={path}: there is no such file; name a checkpoint, or write resume=auto")
    checkpoint = checkpoints.read(path)
    _refuse_another_game(_record(checkpoint, path), ours, f"resume={path}")
    own = path.resolve().parent
    home = own.parent if own.name == checkpoints.FOLDER else None
    if folder is None and home is None:
        raise ConfigurationError(f"resume={path}: this file lies in no run; say with run= in which folder the run goes on")
    folder = folder or home
    assert folder is not None
    if home is not None and folder.resolve() == home:
        newest = checkpoints.newest(home)
        if newest is not None and images_seen(newest[1]) > images_seen(checkpoint):
            raise ConfigurationError(
                f"resume={path}: {newest[0].name} in the same folder is newer and would be lost; name a new folder with run=, or write resume=auto"
            )
    elif first and (folder / "config.yaml").exists():
        raise ConfigurationError(
            f"run={folder}: there is a run in this folder already; go on with it with resume=auto, or name a new folder for what goes on from {path}"
        )
    memories = checkpoint["run"]["loggers"] if folder.resolve() == home else {}
    return Plan(folder, path, images_seen(checkpoint), threads=checkpoint["run"].get("threads"), memories=memories)


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
    summary = read_summary(folder)
    spent = summary.get("images_seen", 0) >= config.budget.images
    if config.budget.seconds is not None:
        spent = spent or summary.get("seconds", 0.0) >= config.budget.seconds
    return summary.get("status") == "finished" and spent


def _newest_unfinished(folder: Path, config: dict[str, Any]) -> Path | None:
    """The unfinished run of an equal configuration that was begun or continued last, in outputs/ or in a day's folder there. The jobs of a sweep
    are left to their sweep.
    """
    outputs = folder.parents[1]
    found = [
        path
        for pattern in ("*", "*/*", "*/*/*")
        for path in outputs.glob(f"{pattern}/config.yaml")
        if (path.parent / "summary.json").exists() and not (path.parents[1] / SWEEP_FILE).exists()
    ]
    finished = []
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            if differences(saved_config(path.parent), config):
                continue
        except ConfigurationError as error:
            log.warning("%s; passed over", error)
            continue
        if read_summary(path.parent).get("status") != "finished":
            if lock.is_held(path.parent):  # by a process that is playing it
                continue
            return path.parent
        finished.append(path.parent)
    if finished:
        log.info("%s is finished: a new run begins; to continue the finished one, add run=%s and a larger budget", finished[0], finished[0])
    return None


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
        for part in ("computed", "versions"):
            different += [
                f"{name} is {now}, was {theirs[part].get(name)}" for name, now in ours[part].items() if now != theirs[part].get(name)
            ]
    if different:
        raise ConfigurationError(
            f"{what}: a run goes on with the game that it began, and {'; '.join(different)}. To start from its weights on purpose: init_from=<its folder>"
        )


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """The settings that are not the same, but for those that are free to change."""
    then, now = dict(leaves(theirs)), dict(leaves(ours))
    return [
        f"{key} is {now.get(key, 'absent')}, was {then.get(key, 'absent')}"
        for key in sorted(then.keys() | now.keys())
        if then.get(key, ...) != now.get(key, ...) and not any(f"{key}.".startswith(f"{free}.") for free in FREE)
    ]
