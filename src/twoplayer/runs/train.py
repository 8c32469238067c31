"""From a configuration to a finished run."""

import functools
import json
import logging
import os
import shlex
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer

from twoplayer import CONF, randomness, signals
from twoplayer.callbacks import samples
from twoplayer.callbacks.checkpoints import Checkpoints
from twoplayer.callbacks.pace import Pace
from twoplayer.callbacks.scores import Scores
from twoplayer.callbacks.stopwatch import Stopwatch
from twoplayer.callbacks.summary import SCORES, Summary, device_name, ending
from twoplayer.config.check import Budget, Checkpoint, check, leaves
from twoplayer.data.base import ImageData
from twoplayer.distributed import environment, ranks
from twoplayer.errors import ConfigurationError
from twoplayer.game.engine import ENGINES, prepare_process, resolve_engine, resolve_precision
from twoplayer.game.game import Game
from twoplayer.loggers.base import History, RunLogger
from twoplayer.loggers.run_folder import RunFolder, read_rows, read_summary
from twoplayer.losses.base import Loss
from twoplayer.runs.plan import Plan, identity, plain, plan
from twoplayer.runs.threads import Trial, candidates, choose
from twoplayer.signals import Interruption
from twoplayer.storage import checkpoints, lock
from twoplayer.storage.checkpoints import DurableCheckpoints
from twoplayer.tricks.base import Tricks

log = logging.getLogger(__name__)


def refuse(config: DictConfig) -> None:
    """Raise ConfigurationError for all that can be known to be wrong with a configuration before a run has a folder."""
    check(config)
    _refuse_devices(config)
    missing = config.engine != "auto" and ENGINES[config.engine].missing(torch.device(_device_type(config)))
    if missing:
        raise ConfigurationError(
            f"engine={config.engine}: there is no {missing.removeprefix('a ')} on this machine; install one, or set engine=eager"
        )


def open_data(config: DictConfig) -> ImageData:
    """The data, fetched and verified; the jobs of a sweep share them. Raises DataError."""
    return _open_data(json.dumps(OmegaConf.to_container(config.data, resolve=True), sort_keys=True))


@functools.lru_cache(maxsize=4)
def _open_data(node: str) -> ImageData:
    settings = json.loads(node)
    if environment.is_first():
        log.info("loading the data (%s) ...", _family(settings))
    data: ImageData = instantiate(OmegaConf.create(settings))
    data.prepare_data()
    return data


def prepare(config: DictConfig, folder: Path, named: bool) -> Plan:
    """What this configuration, which has been checked, means for a run in `folder`: from where it goes on, if it does. Writes nothing.

    Raises ConfigurationError or DataError where it cannot go on, or cannot begin from the weights that it names.
    """
    device = torch.device(_device_type(config))
    planned = plan(config, folder, named, identity(config, open_data(config), device), environment.is_first())
    if config.init_from is not None and planned.checkpoint is None:
        _begin_from(build_game(config, torch.device("cpu")), config)
    return planned


def train(config: DictConfig) -> dict[str, Any]:
    """Play the game that the configuration describes, in the folder that Hydra has made for it. Returns the summary."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    refuse(config)  # a multirun may have checked this job already, but only here are numbers put into the form that is wanted
    if environment.is_first():
        lock.acquire(folder)
    prepare_process()
    try:
        planned = prepare(config, folder, named=True)
        if planned.finished:
            log.info("%s has been played to its end already", environment.shown(folder))
            return read_summary(folder)
        with signals.listening(at_once=ranks.end_children), ranks.one_job(), _quiet():
            summary = _play(OmegaConf.create(plain(config)), planned)
            if number := signals.received():
                raise Interruption(number, f"a signal came when the run had ended; {environment.shown(folder)} is complete")
    finally:
        lock.release(folder)
    return summary


def build_game(config: DictConfig, device: torch.device) -> Game:
    """The players, untrained, as the configuration wants them: a function of the configuration and its seed alone."""
    randomness.restart(config.seed, "weights")
    return Game(
        instantiate(config.model),
        instantiate(config.loss),
        Tricks({name: instantiate(node) for name, node in config.trick.items() if node}),
        {player: instantiate(config.optimizer[player]) for player in ("discriminator", "generator")},
        resolve_engine(config.engine),
        batch_size=config.data.batch_size,
        num_classes=config.data.num_classes,
        seed=config.seed,
        precision=resolve_precision(config.precision, device),
    )


def _begin_from(game: Game, config: DictConfig) -> None:
    """The weights of another game: of its newest checkpoint where a run is named."""
    path = Path(config.init_from)
    found = checkpoints.newest(path) if path.is_dir() else (path, checkpoints.read(path)) if path.exists() else None
    if found is None:
        raise ConfigurationError(f"init_from={path}: there is no checkpoint; name a run folder or a checkpoint file")
    try:
        game.begin_from(found[1]["state_dict"])
    except RuntimeError as error:
        record = found[1].get("run")
        theirs = record.get("config") if isinstance(record, dict) else None
        raise ConfigurationError(
            f"init_from={path}: the weights there are of another model{_other_model(theirs, plain(config))}; choose the model that they are of"
        ) from error


def _other_model(theirs: Any, ours: dict[str, Any]) -> str:
    """The settings of the networks that are not the same; the models alone where these are not. Nothing where it is not known."""
    if not isinstance(theirs, dict):
        return ""
    then, now = (dict(leaves({"model": config.get("model")})) for config in (theirs, ours))
    models = [str(each.get("model._target_", "unknown")).split(".")[-2:][0] for each in (then, now)]
    if models[0] != models[1]:
        return f" (model={models[0]} there, model={models[1]} here)"
    different = [key for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)]
    if not different:  # a trick that adds to a network
        return f" (trick=[{','.join(theirs.get('trick') or ())}] there, trick=[{','.join(ours['trick'])}] here)"
    return f" ({'; '.join(f'{key}={then.get(key)} there, {now.get(key)} here' for key in different)})"


def _play(config: DictConfig, planned: Plan) -> dict[str, Any]:
    folder = planned.folder
    device = torch.device(_device_type(config))
    data = open_data(config)
    trial = _settle_threads(config, planned, device, data)
    game = build_game(config, device)
    if config.init_from is not None and planned.checkpoint is None:
        _begin_from(game, config)
    history = _history(planned)
    record = RunFolder(folder)
    loggers: list[RunLogger] = [record, *(instantiate(node) for node in config.logger.values())]
    distributed = config.trainer.devices * config.trainer.num_nodes > 1
    trainer = Trainer(
        accelerator=_accelerator(config),
        devices=config.trainer.devices,
        num_nodes=config.trainer.num_nodes,
        strategy=ranks.GameStrategy(planned.checkpoint) if distributed else "auto",
        callbacks=_callbacks(config, identity(config, data, device), history, trial, folder),
        logger=loggers,
        plugins=[DurableCheckpoints()],
        max_epochs=-1,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    # Its handlers would speak to the other ranks from inside a signal; ours only take note.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    if environment.is_first():
        _save_config(config, folder)
        _introduce(config, game, device, planned)
    try:
        for logger in loggers:
            logger.begin(folder, folder.name, _group(config), _tags(config), plain(config), history)
        trainer.fit(game, datamodule=data, ckpt_path=planned.checkpoint, weights_only=True)
    except BaseException as error:
        cause = ranks.explain_loss(error) or error
        record.summarize(ending(cause))
        for logger in loggers:
            logger.finalize("failed")
        if cause is not error:
            raise cause from error
        raise
    if environment.is_first():
        _conclude(config, record.summary, folder)
    return record.summary


def _save_config(config: DictConfig, folder: Path) -> None:
    temporary = folder / "config.yaml.new"
    OmegaConf.save(config, temporary)
    os.replace(temporary, folder / "config.yaml")


def _history(planned: Plan) -> History | None:
    """What loggers go on from. A run that goes on in another folder takes the rows and grids along, and is a run of its own to others."""
    if planned.checkpoint is None:
        return None
    home = planned.checkpoint.resolve().parents[1]
    elsewhere = home != planned.folder.resolve()
    folder = planned.folder / samples.FOLDER
    if elsewhere and environment.is_first() and (home / samples.FOLDER).is_dir():
        folder.mkdir(exist_ok=True)
        for path in samples.grids(home / samples.FOLDER, planned.images_seen).values():
            shutil.copy2(path, folder)
    grids = list(samples.grids(folder, planned.images_seen).items())
    return History(planned.images_seen, read_rows(home, planned.images_seen), grids, dict(planned.memories))


def _settle_threads(config: DictConfig, planned: Plan, device: torch.device, data: ImageData) -> Trial | None:
    """Have this process compute with as many threads as the run has, or asks for; or as are fastest, where one process trains on a CPU."""
    wanted = planned.threads if config.threads == "auto" else config.threads
    if wanted is not None:
        if planned.threads not in (None, wanted):
            log.warning("on %s threads from here on, %s before: results will differ in their last digits", wanted, planned.threads)
        os.environ["OMP_NUM_THREADS"] = str(wanted)  # for the other ranks of this machine
        torch.set_num_threads(wanted)
        return None
    most = torch.get_num_threads()
    if device.type != "cpu" or most == 1 or config.trainer.devices * config.trainer.num_nodes > 1:
        return None
    log.info("trying 1 to %s threads ...", most)
    with randomness.aside(device):
        config = config.copy()
        config.engine = "eager"  # compiling would take longer than the trial
        game = build_game(config, device)
        batch = data.batches(config.seed, device).batch(0)

        def iterate(threads: int) -> float:
            torch.set_num_threads(threads)
            started = time.perf_counter()
            game.iterate(batch)
            return time.perf_counter() - started

        trial = choose(candidates(most), iterate)
    torch.set_num_threads(trial.threads)
    return trial._replace(updates=sum(game.clock.updates.values()) / game.clock.iteration)


def _callbacks(config: DictConfig, same: dict[str, Any], history: History | None, trial: Trial | None, folder: Path) -> list[Callback]:
    """In the order of their work: what others read comes first. A run that goes on keeps its last scores until it has new ones."""
    last = read_summary(folder) if history else {}
    speeds = {number: config.data.batch_size / seconds for number, seconds in trial.seconds.items()} if trial else {}
    facts = {"name": config.name, "seed": config.seed, **{name: last.get(name) for name in SCORES}}
    if speeds:
        facts["threads_tried"] = speeds
    stopwatch = Stopwatch(Budget(**config.budget))
    chosen: list[Callback] = [instantiate(node) for node in config.callbacks.values()]
    for callback in chosen:
        if isinstance(callback, Scores) and config.metric:
            callback.metric = instantiate(config.metric)
    return [
        stopwatch,
        *chosen,
        Pace(trial.updates / trial.seconds[trial.threads] if trial else 0.0),
        Checkpoints(Checkpoint(**config.checkpoint), same, dict(history.memories) if history else {}),
        Summary(stopwatch, facts),
    ]


def _refuse_devices(config: DictConfig) -> None:
    hardware, batch_size, kind = config.trainer, config.data.batch_size, _accelerator(config)
    world_size = hardware.devices * hardware.num_nodes
    _refuse_launch(hardware)
    available = {"gpu": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(kind)
    if available == 0:
        raise ConfigurationError(f"trainer.accelerator={kind}: there is none on this machine; set trainer=cpu")
    if available is not None and hardware.devices > available:
        raise ConfigurationError(
            f"trainer.devices={hardware.devices}: this machine has {available} of kind {kind}; set trainer.devices={available}, or trainer=cpu"
        )
    if kind == "mps" and config.metric:
        raise ConfigurationError("trainer.accelerator=mps: it has no float64, which scores need; set metric=none or trainer=cpu")
    if batch_size % world_size:
        raise ConfigurationError(
            f"data.batch_size={batch_size}: this is the batch of all {world_size} ranks together and does not divide by {world_size}; set a multiple of it"
        )


def _refuse_launch(hardware: DictConfig) -> None:
    wanted = hardware.devices * hardware.num_nodes
    settings = f"trainer.devices={hardware.devices} trainer.num_nodes={hardware.num_nodes}"
    if environment.manager() is not None and environment.world_size() != wanted:
        raise ConfigurationError(
            f"{settings}: {environment.manager()} has started {environment.world_size()} processes, and these settings ask for {wanted}; "
            "make them the same (srun --ntasks-per-node, torchrun --nproc-per-node)"
        )
    if environment.manager() is None and hardware.num_nodes > 1:
        raise ConfigurationError(f"{settings}: on several nodes the processes have to be started by torchrun or srun; see the README")


def _accelerator(config: DictConfig) -> str:
    """`auto` is CUDA if there is any, else the CPU; Apple's MPS has no float64, which scores need, and is used on request alone."""
    chosen: str = config.trainer.accelerator
    return ("gpu" if torch.cuda.is_available() else "cpu") if chosen == "auto" else chosen


def _device_type(config: DictConfig) -> str:
    accelerator = _accelerator(config)
    return "cuda" if accelerator == "gpu" else accelerator


def _group(config: DictConfig) -> str:
    """What runs that differ by their seed alone have in common."""
    return "_".join(_tags(config))


def _tags(config: DictConfig) -> list[str]:
    return [*(_family(config[part]) for part in ("data", "model", "loss")), *map(str, config.trick)]


def _family(node: Any) -> str:
    """The module of what a node configures."""
    return str(node["_target_"]).split(".")[-2]


def _introduce(config: DictConfig, game: Game, device: torch.device, planned: Plan) -> None:
    """Say what is about to happen, the chosen tricks included, which `trick=` on the command line has replaced as a whole."""
    data, model, loss, *tricks = _tags(config)
    sizes = ", ".join(
        f"{player[0].upper()} {sum(parameter.numel() for parameter in parameters):,}"
        for player, parameters in sorted(game.player_parameters.items())
    )
    ranks_ = config.trainer.devices * config.trainer.num_nodes
    where = f"{device_name(device)}{f' x {ranks_}' if ranks_ > 1 else ''}, {game.precision}, engine {game.engine.name}"
    log.info("model %s (%s parameters)   loss %s   data %s   tricks %s", model, sizes, loss, data, ", ".join(tricks) or "none")
    log.info("on %s   seed %s   up to %s images", where, config.seed, f"{config.budget.images:,}")
    if game.engine.name == "captured":
        log.warning("engine=captured is new and has never been run on a real GPU; should it fail, set engine=eager")
    if planned.checkpoint is not None:
        log.info("going on from %s images seen (%s)", f"{planned.images_seen:,}", environment.shown(planned.checkpoint))
    elif config.resume == "auto":
        log.info("there is nothing to go on from in %s: beginning", environment.shown(planned.folder))
    penalties = [name for name in game.tricks.chosen if name in game.tricks.due("discriminator", 0)]
    if ranks_ > 1 and penalties and type(game.loss).critic is not Loss.critic and game.loss.batchwise:
        log.info(
            "%s over several ranks: each learns through the vectors of its own images alone, so weights differ a little from one rank's",
            ", ".join(penalties),
        )
    if game.loss.needs_bounded_slope and not game.tricks.bounds_slope:
        log.warning(
            "loss=%s without anything that bounds D's slope does not approximate a distance and may run away: add trick=[wgan_gp]", loss
        )


def _conclude(config: DictConfig, summary: dict[str, Any], folder: Path) -> None:
    """The score beside its floor, the time, the speed; where to look; and what to do next, which a multirun says once, at its end."""
    if summary["fd"] is not None:
        floor = (
            f"{summary['fd'] / summary['fd_floor']:.1f} x its floor of {summary['fd_floor']:.2f}, untrained {summary['fd_untrained']:,.0f}"
        )
        log.info("fd, on the test split   %.2f   %s", summary["fd"], floor)
    duration = f"{summary['seconds']:,.0f} s, {summary['images_per_second']:,.0f} images/s"
    log.info("images seen             %s   %s", f"{summary['images_seen']:,}", duration)
    picture = folder / samples.FOLDER / samples.PROGRESS
    if picture.exists():
        log.info("progress                %s", environment.shown(picture))
    log.info("run                     %s", environment.shown(folder))
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        log.info("next")
        for command in _next(config, summary, folder):
            log.info("  %s", command)


def _next(config: DictConfig, summary: dict[str, Any], folder: Path) -> list[str]:
    """Commands to try on a run that has ended."""
    source, run = CONF.parent / "src", environment.setting("run", folder)
    commands = [f"python {environment.shown(source / 'sample.py')} {run}"]
    if (folder / "wandb").is_dir():
        commands.append(f"wandb leet {shlex.quote(environment.shown(folder / 'wandb'))}")
    if environment.manager() is None:
        given = HydraConfig.get().overrides.task
        kept = [word for word in given if word.split("=")[0] not in ("run", "resume", "budget.images", "budget.seconds")]
        spent = {"images": summary["images_seen"], "seconds": summary["seconds"]}
        larger = [f"budget.{unit}={2 * max(size, round(spent[unit]))}" for unit, size in config.budget.items() if size is not None]
        words = [*map(shlex.quote, kept), run, "resume=auto", *larger]
        commands.append(f"python {environment.shown(source / 'train.py')} {' '.join(words)}")
    return commands


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's advice is about loops and loggers that it does not run here."""
    names = ("pytorch_lightning", "lightning_fabric", "pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.rank_zero")
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|torchmetrics")
        yield
