"""The plan of a run: start or resume, in which folder, on which data, from which checkpoint."""

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
from twoplayer.data.base import Data
from twoplayer.distributed import environment
from twoplayer.errors import ConfigurationError
from twoplayer.game.build import build_from
from twoplayer.game.engine import resolve_engine, resolve_precision
from twoplayer.game.game import Game
from twoplayer.overrides import is_free
from twoplayer.paths import make_folder, override
from twoplayer.settings import family, leaves, plain
from twoplayer.storage import checkpoints, lock
from twoplayer.storage.run_folder import CONFIG, SUMMARY, has_begun, read_config, read_summary

log = logging.getLogger(__name__)

SWEEP_FILE = "multirun.yaml"
"""The file that Hydra writes into the folder of a sweep."""

BINDING_PACKAGES = ("twoplayer", "torch", "pytorch-lightning")
"""Packages whose versions affect the numbers of a run."""

TARGET = "._target_"
"""The end of a setting's name that holds the choice of its group."""


class Plan(NamedTuple):
    """Everything that `train` needs besides the configuration."""

    folder: Path
    data: Data
    identity: dict[str, Any]
    """The result of `identity`, which checkpoints record."""
    checkpoint: checkpoints.Found | None = None
    """The checkpoint to resume from; None for a new run."""
    memories: Mapping[str, dict[str, Any]] = MappingProxyType({})
    """State that loggers saved in the checkpoint, by the class of the logger."""
    finished: bool = False
    """The run has already reached its budget and is scored."""
    game: Game | None = None
    """The game with the weights of `init_from`, if that is set."""
    overrides: Sequence[str] = ()
    """The overrides of the command."""
    in_sweep: bool = False
    facts: Mapping[str, Any] = MappingProxyType({})
    """More entries of the summary."""

    @property
    def images_seen(self) -> int:
        """Real images seen at the checkpoint; 0 for a new run."""
        return 0 if self.checkpoint is None else images_seen(self.checkpoint.content)

    @property
    def threads(self) -> int | None:
        """The number of threads that the checkpoint records; None if it records none."""
        return None if self.checkpoint is None else self.checkpoint.content["run"].get("threads")


def plan_run(config: DictConfig, folder: Path | None = None, *, overrides: Sequence[str] = (), in_sweep: bool = False) -> Plan:
    """Plan the run of a checked configuration and lock its folder; `train` unlocks it.

    `folder` is the one that the user named. Without it the folder is `config.run`, or with
    `resume=auto` that of the newest unfinished run of this configuration.

    Raises ConfigurationError or DataError if the run can neither start nor resume, or if another
    process uses its folder.
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
        if folder is None and plan.checkpoint is not None:  # another process may have gone on with it since
            plan = _locked(config, plan)
    return plan._replace(overrides=overrides, in_sweep=in_sweep)


def _locked(config: DictConfig, before: Plan) -> Plan:
    """The plan of a run that resumes, made again now that its folder is locked."""
    try:
        return look(config, before.folder, named=True)
    except BaseException:
        lock.release(before.folder)
        raise


def look(config: DictConfig, folder: Path, named: bool) -> Plan:
    """Like `plan_run`, but without locking the folder or writing anything."""
    refuse_hardware(config)
    data = open_data(config)
    ours = identity(config, data)
    if config.resume is None:
        if environment.is_first() and (folder / CONFIG).exists():
            raise ConfigurationError(
                f"run={folder}: this folder already contains a run; set resume=auto to resume it, or run=<another folder>"
            )
        plan = Plan(folder, data, ours)
    elif config.resume == "auto":
        plan = _resume(config, folder if named else _newest_unfinished(folder, ours["config"]) or folder, data, ours)
    else:
        plan = _resume_from(config, Path(config.resume), folder if named else None, data, ours)
    if config.init_from is not None and plan.checkpoint is None:
        plan = plan._replace(game=build_from(config, device_of(config)))
    return plan


def message(config: DictConfig, plan: Plan) -> dict[str, Any]:
    """The plan as JSON values, for another local rank."""
    return {
        "config": plain(config),
        "folder": str(plan.folder.resolve()),
        "checkpoint": None if plan.checkpoint is None else str(plan.checkpoint.path.resolve()),
    }


def receive(content: Mapping[str, Any]) -> tuple[DictConfig, Plan]:
    """The configuration and the plan of a `message`."""
    config = OmegaConf.create(dict(content["config"]))
    data = open_data(config)
    plan = Plan(Path(content["folder"]), data, identity(config, data))
    if content["checkpoint"] is not None:
        path = Path(content["checkpoint"])
        plan = plan._replace(checkpoint=checkpoints.Found(path, checkpoints.read(path)))
    return config, plan


def open_data(config: DictConfig) -> Data:
    """Download, verify and open the data, cached for the jobs of a sweep. Raises DataError."""
    return _open_data(json.dumps(OmegaConf.to_container(config.data, resolve=True), sort_keys=True))


@functools.lru_cache(maxsize=4)
def _open_data(node: str) -> Data:
    settings = json.loads(node)
    if environment.is_first():
        log.info("loading the data (%s) ...", family(settings))
    data: Data = instantiate(OmegaConf.create(settings))
    data.prepare_data()
    return data


def identity(config: DictConfig, data: Data) -> dict[str, Any]:
    """The values that must be equal in a checkpoint and a run that resumes from it.

    They are plain values; device, precision and engine are resolved where the setting is `auto`.
    """
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


def _resume(config: DictConfig, folder: Path, data: Data, ours: dict[str, Any]) -> Plan:
    """Resume from the newest checkpoint in `folder`, or start a new run there if it has none."""
    found = checkpoints.newest(folder)
    if found is None:
        if environment.is_first() and (folder / CONFIG).exists() and has_begun(folder):  # what has not can be mended
            _refuse_other_run({"config": read_config(folder)}, ours, f"run={folder}")
        return Plan(folder, data, ours)
    checkpoint = found.content
    _refuse_other_run(_record(checkpoint, found.path), ours, f"run={folder}")
    seen, finished = images_seen(checkpoint), _is_finished(folder, config)
    if seen - config.data.batch_size >= config.budget.images and not finished:  # no image is left to train on
        raise ConfigurationError(
            f"budget.images={config.budget.images}: the run in {folder} has seen {seen:,} images already; set a larger budget"
        )
    return Plan(folder, data, ours, found, checkpoint["run"]["loggers"], finished)


def _resume_from(config: DictConfig, path: Path, folder: Path | None, data: Data, ours: dict[str, Any]) -> Plan:
    """Resume from one checkpoint file.

    The run continues in the folder of the checkpoint if that is the newest one there, and otherwise
    needs a new folder.
    """
    if not path.is_file():
        raise ConfigurationError(f"resume={path}: there is no such file; name a checkpoint file, or set resume=auto")
    checkpoint = checkpoints.read(path, "set run=<its run folder> resume=auto, which takes the newest intact checkpoint")
    _refuse_other_run(_record(checkpoint, path), ours, f"resume={path}")
    own = path.resolve().parent
    home = own.parent if own.name == checkpoints.FOLDER else None
    if folder is None and home is None:
        raise ConfigurationError(f"resume={path}: this file is not in a run folder; set run=<folder> for the resumed run")
    folder = folder or home
    assert folder is not None
    if home is not None and folder.resolve() == home:
        seen = images_seen(checkpoint)
        newer = any(saved.images_seen > seen for saved in checkpoints.saved_files(home)) and checkpoints.newest(home)
        if newer and images_seen(newer.content) > seen:
            raise ConfigurationError(
                f"resume={path}: {newer.path.name} in the same folder is newer and would be lost; set run=<new folder> to keep both, or resume=auto to resume from the newer one"
            )
    elif environment.is_first() and (folder / CONFIG).exists():
        raise ConfigurationError(
            f"run={folder}: this folder already contains a run; set resume=auto to resume it, or run=<new folder> to resume from {path}"
        )
    memories = checkpoint["run"]["loggers"] if folder.resolve() == home else {}
    return Plan(folder, data, ours, checkpoints.Found(path, checkpoint), memories)


def images_seen(checkpoint: Mapping[str, Any]) -> int:
    """Real images seen at the time of the save."""
    seen: int = checkpoint["run"]["images_seen"]
    return seen


def _record(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    if not isinstance(checkpoint.get("run"), dict):
        raise ConfigurationError(
            f"{path}: this checkpoint does not record its run, so it cannot be resumed; use its weights with init_from={path}"
        )
    record: dict[str, Any] = checkpoint["run"]
    return record


def _is_finished(folder: Path, config: DictConfig) -> bool:
    """Whether the run has reached the budget of this configuration and is scored."""
    summary = read_summary(folder)
    spent = summary.get("images_seen", 0) >= config.budget.images
    if config.budget.seconds is not None:
        spent = spent or summary.get("seconds", 0.0) >= config.budget.seconds
    return summary.get("status") == "finished" and spent


def _newest_unfinished(folder: Path, config: dict[str, Any]) -> Path | None:
    """The unfinished run of this configuration that was started or resumed last.

    Searches up to three levels of folders below outputs/, and ignores jobs of sweeps and runs that
    another process is training.
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
            log.warning("%s; skipping this run", error)
            continue
        last = _last_part(path.parent)
        if read_summary(last).get("status") != "finished":
            if lock.is_held(last):  # another process is training it
                continue
            return path.parent
        finished.append(path.parent)
    if finished:
        log.info(
            "%s is finished: starting a new run; to train the finished one longer, set run=%s and a larger budget", finished[0], finished[0]
        )
    return None


def _last_part(folder: Path) -> Path:
    """The last run of a chain that was rolled back; the run itself if it was not."""
    while following := read_summary(folder).get("rolled_back"):
        folder = Path(following["folder"])
    return folder


def _refuse_other_run(theirs: dict[str, Any], ours: dict[str, Any], what: str) -> None:
    """Raise ConfigurationError if a run differs from the one at `what`, such as `run=<folder>`."""
    different = differences(theirs["config"], ours["config"])
    if "data_sha256" in theirs:
        if theirs["data_sha256"] != ours["data_sha256"]:
            different.append("the training images differ")
        for part in ("computed", "versions"):
            different += [
                f"{name} is {now}, was {theirs[part].get(name)}" for name, now in ours[part].items() if now != theirs[part].get(name)
            ]
    if different:
        raise ConfigurationError(
            f"{what}: a resumed run must match the saved one, but {'; '.join(different)}. Undo this, or start a new run from its weights with {override('init_from', Path(what.partition('=')[2]))}"
        )


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """One text for each setting that differs and that a resumed run may not change.

    Another choice of a group, such as another loss, is one of them, whatever settings it has.
    """
    then, now = dict(leaves(theirs)), dict(leaves(ours))
    keys = [key for key in sorted(then.keys() | now.keys()) if then.get(key, ...) != now.get(key, ...) and not is_free(key)]
    chosen = [key.removesuffix(TARGET) for key in keys if key.endswith(TARGET) and key in then and key in now]
    texts = [f"{group} is {_choice(now, group)}, was {_choice(then, group)}" for group in chosen]
    others = [key for key in keys if not any(key.startswith(f"{group}.") for group in chosen)]
    return texts + [f"{key} is {now.get(key, 'absent')}, was {then.get(key, 'absent')}" for key in others]


def _choice(settings: Mapping[str, Any], group: str) -> str:
    target = str(settings[group + TARGET])
    return family({"_target_": target}) if target.startswith("twoplayer.") else target.rpartition(".")[2]
