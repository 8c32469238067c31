"""What a run is to do: begin or resume, in which folder, on which data, and from which checkpoint."""

import functools
import json
import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from twoplayer.config.hardware import device_of, refuse_hardware
from twoplayer.data.base import ImageData
from twoplayer.distributed import environment
from twoplayer.errors import ConfigurationError
from twoplayer.game.build import build_from
from twoplayer.game.engine import resolve_engine, resolve_precision
from twoplayer.game.game import Game
from twoplayer.paths import make_folder
from twoplayer.settings import family, leaves, plain
from twoplayer.storage import checkpoints, lock
from twoplayer.storage.run_folder import CONFIG, SUMMARY, read_config, read_summary

log = logging.getLogger(__name__)

FREE = ("budget", "checkpoint", "name", "run", "sweep", "resume", "logger", "callbacks.progress", "debug", "data.root", "threads")
"""What may differ when a run goes on: it decides how long, where and before whose eyes the game is played, and not what is played."""

SWEEP_FILE = "multirun.yaml"
"""What Hydra writes into the folder of a sweep."""

BINDING_PACKAGES = ("twoplayer", "torch", "pytorch-lightning")
"""The packages whose versions decide what numbers a run gives."""


class Plan(NamedTuple):
    """All that `train` needs besides the configuration."""

    folder: Path
    data: ImageData
    identity: dict[str, Any]
    """What a checkpoint has to share with a run that resumes from it."""
    checkpoint: checkpoints.Found | None = None
    """What the run resumes from; None if it begins."""
    memories: Mapping[str, dict[str, Any]] = MappingProxyType({})
    """What its loggers need from earlier processes, by the logger's class."""
    finished: bool = False
    """The run has reached its budget, and its score."""
    game: Game | None = None
    """Players with the weights that `init_from` names."""
    overrides: Sequence[str] = ()
    """The words of the command."""
    in_sweep: bool = False

    @property
    def images_seen(self) -> int:
        """Where the run resumes."""
        return 0 if self.checkpoint is None else images_seen(self.checkpoint.content)

    @property
    def threads(self) -> int | None:
        """The number of threads of the run so far."""
        return None if self.checkpoint is None else self.checkpoint.content["run"].get("threads")


def plan_run(config: DictConfig, folder: Path | None = None, *, overrides: Sequence[str] = (), in_sweep: bool = False) -> Plan:
    """Settle what a checked configuration means, and take the folder of the run for this process.

    `folder` is the one that the user named. Without it the run is in `config.run`, or where an
    unfinished run of this configuration is found (`resume=auto`). `train` gives the folder back.

    Raises ConfigurationError or DataError where the run can neither begin nor resume, or another
    process works in its folder.
    """
    first = environment.is_first()
    if first and folder is not None and folder.is_dir():
        lock.acquire(folder)  # before anything in it is read
    try:
        plan = look(config, folder or Path(config.run), named=folder is not None)
    except BaseException:
        if folder is not None:
            lock.release(folder)
        raise
    if first and not plan.finished:
        make_folder("run", plan.folder)
        lock.acquire(plan.folder)
    return plan._replace(overrides=overrides, in_sweep=in_sweep)


def look(config: DictConfig, folder: Path, named: bool) -> Plan:
    """The plan of a run in `folder`, without taking it: nothing is written."""
    refuse_hardware(config)
    data = open_data(config)
    ours = identity(config, data)
    if config.resume is None:
        if environment.is_first() and (folder / CONFIG).exists():
            raise ConfigurationError(
                f"run={folder}: there is a run in this folder already; continue it with resume=auto, or name another folder"
            )
        plan = Plan(folder, data, ours)
    elif config.resume == "auto":
        plan = _go_on(config, folder if named else _newest_unfinished(folder, ours["config"]) or folder, data, ours)
    else:
        plan = _go_on_from(config, Path(config.resume), folder if named else None, data, ours)
    if config.init_from is not None and plan.checkpoint is None:
        plan = plan._replace(game=build_from(config, device_of(config)))
    return plan


def message(config: DictConfig, plan: Plan) -> dict[str, Any]:
    """A plan for another local rank, as JSON can hold it."""
    return {
        "config": plain(config),
        "folder": str(plan.folder.resolve()),
        "checkpoint": None if plan.checkpoint is None else str(plan.checkpoint.path.resolve()),
    }


def receive(content: Mapping[str, Any]) -> tuple[DictConfig, Plan]:
    """The configuration and the plan that a message holds."""
    config = OmegaConf.create(dict(content["config"]))
    data = open_data(config)
    plan = Plan(Path(content["folder"]), data, identity(config, data))
    if content["checkpoint"] is not None:
        path = Path(content["checkpoint"])
        plan = plan._replace(checkpoint=checkpoints.Found(path, checkpoints.read(path)))
    return config, plan


def open_data(config: DictConfig) -> ImageData:
    """The data, fetched and verified; the jobs of a sweep share them. Raises DataError."""
    return _open_data(json.dumps(OmegaConf.to_container(config.data, resolve=True), sort_keys=True))


@functools.lru_cache(maxsize=4)
def _open_data(node: str) -> ImageData:
    settings = json.loads(node)
    if environment.is_first():
        log.info("loading the data (%s) ...", family(settings))
    data: ImageData = instantiate(OmegaConf.create(settings))
    data.prepare_data()
    return data


def identity(config: DictConfig, data: ImageData) -> dict[str, Any]:
    """What a checkpoint has to share with a run that goes on from it, as plain values; `auto` means what it has come to here."""
    device = device_of(config)
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


def _go_on(config: DictConfig, folder: Path, data: ImageData, ours: dict[str, Any]) -> Plan:
    """In the same folder, from its newest checkpoint, or from zero."""
    found = checkpoints.newest(folder)
    if found is None:
        if environment.is_first() and (folder / CONFIG).exists():
            _refuse_another_game({"config": read_config(folder)}, ours, f"run={folder}")
        return Plan(folder, data, ours)
    checkpoint = found.content
    _refuse_another_game(_record(checkpoint, found.path), ours, f"run={folder}")
    seen, finished = images_seen(checkpoint), _is_finished(folder, config)
    if seen - config.data.batch_size >= config.budget.images and not finished:  # there would be nothing to do but to call it finished
        raise ConfigurationError(
            f"budget.images={config.budget.images}: the run in {folder} has seen {seen:,} images already; set a larger budget"
        )
    return Plan(folder, data, ours, found, checkpoint["run"]["loggers"], finished)


def _go_on_from(config: DictConfig, path: Path, folder: Path | None, data: ImageData, ours: dict[str, Any]) -> Plan:
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
        seen = images_seen(checkpoint)
        newer = any(generation.images_seen > seen for generation in checkpoints.generations(home)) and checkpoints.newest(home)
        if newer and images_seen(newer.content) > seen:
            raise ConfigurationError(
                f"resume={path}: {newer.path.name} in the same folder is newer and would be lost; name a new folder with run=, or write resume=auto"
            )
    elif environment.is_first() and (folder / CONFIG).exists():
        raise ConfigurationError(
            f"run={folder}: there is a run in this folder already; go on with it with resume=auto, or name a new folder for what goes on from {path}"
        )
    memories = checkpoint["run"]["loggers"] if folder.resolve() == home else {}
    return Plan(folder, data, ours, checkpoints.Found(path, checkpoint), memories)


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
        for path in outputs.glob(f"{pattern}/{CONFIG}")
        if (path.parent / SUMMARY).exists() and not (path.parents[1] / SWEEP_FILE).exists()
    ]
    finished = []
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            if differences(read_config(path.parent), config):
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
