"""Training a run as planned, from a checked configuration to the summary."""

import hashlib
import logging
import math
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer

from twoplayer import lightning_private, signals
from twoplayer.callbacks import samples
from twoplayer.callbacks.checkpoints import Checkpoints
from twoplayer.callbacks.pace import Pace
from twoplayer.callbacks.referee import Referee
from twoplayer.callbacks.scores import Scores
from twoplayer.callbacks.stopwatch import Stopwatch
from twoplayer.callbacks.summary import Summary, ending
from twoplayer.config.hardware import accelerator_of, device_of, num_ranks
from twoplayer.config.schema import Budget, Checkpoint
from twoplayer.distributed import environment, launcher
from twoplayer.game.build import build_game
from twoplayer.game.engine import configure_process
from twoplayer.game.flops import flops_per_image
from twoplayer.loggers.base import History, RunLogger
from twoplayer.loggers.run_folder import RunFolder
from twoplayer.overrides import is_free, sets, setting_of, without
from twoplayer.paths import shown
from twoplayer.referee.base import Advice
from twoplayer.runs import advice, console
from twoplayer.runs.plan import Plan, message
from twoplayer.runs.threads import Trial, settle_threads
from twoplayer.settings import family, plain, tags
from twoplayer.signals import Interruption
from twoplayer.storage import lock
from twoplayer.storage.checkpoints import DurableCheckpoints
from twoplayer.storage.run_folder import SEARCH, has_begun, read_rows, read_summary, write_config, write_summary
from twoplayer.tricks.base import Player

log = logging.getLogger(__name__)

MOST_IN_TAG, MOST_IN_GROUP = 64, 128  # characters that W&B takes


def train(config: DictConfig, plan: Plan) -> dict[str, Any]:
    """Train the game of a checked configuration as `plan_run` planned it.

    Returns the summary of the run on rank 0, and an empty dict on other ranks. Raises Interruption
    if a signal stopped the run, which is saved then.
    """
    configure_process()
    try:
        if plan.finished:
            log.info("%s has already reached its budget", shown(plan.folder))
            return read_summary(plan.folder)
        with signals.listening(at_once=launcher.end_children), launcher.one_job(), _quiet():
            config = OmegaConf.create(plain(config))
            try:
                summary = _fit(config, plan)
            except BaseException as error:
                _record_failure(config, plan, error)
                raise
            if number := signals.received():
                raise Interruption(number, f"stopped by a signal after training had ended; {shown(plan.folder)} is complete")
    finally:
        lock.release(plan.folder)
    return summary


def _fit(config: DictConfig, plan: Plan) -> dict[str, Any]:
    device = device_of(config)
    trial = settle_threads(config, plan, device)
    game = plan.game or build_game(config, device)
    flops = flops_per_image(game, plan.data.batches(config.seed, game.device).batch(0))
    history = _history(plan)
    record = RunFolder(plan.folder)
    loggers: list[RunLogger] = [record, *(instantiate(node) for node in config.logger.values())]
    trainer = Trainer(
        accelerator=accelerator_of(config),
        devices=config.trainer.devices,
        num_nodes=config.trainer.num_nodes,
        strategy=launcher.GameStrategy(message(config, plan)) if num_ranks(config) > 1 else "auto",
        callbacks=_callbacks(config, plan, history, trial, flops),
        logger=loggers,
        plugins=[DurableCheckpoints(plan.checkpoint)],
        max_epochs=-1,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=plan.folder,
    )
    lightning_private.ignore_signals(trainer)
    if environment.is_first():
        write_config(plan.folder, config)
        console.introduce(config, plan, game, device, flops)
    try:
        for logger in loggers:
            labels = [*tags(config), *_sweep(config, plan)]
            logger.start(plan.folder, plan.folder.name, _group(config, plan.overrides), labels, plain(config), history)
        path = None if plan.checkpoint is None else plan.checkpoint.path
        trainer.fit(game, datamodule=plan.data, ckpt_path=path, weights_only=True)
    except BaseException as error:
        cause = (launcher.lost_connection_error(error) if num_ranks(config) > 1 else None) or error
        record.summarize(ending(cause))
        for logger in loggers:
            logger.finalize("failed")
        if cause is not error:
            raise cause from error
        raise
    if environment.is_first():
        console.conclude(config, plan, record.summary)
    return record.summary


def _record_failure(config: DictConfig, plan: Plan, error: BaseException) -> None:
    """Describe a run that has failed before it began to train, so that a table counts it."""
    if environment.is_first() and plan.checkpoint is None and not has_begun(plan.folder):
        with suppress(OSError):
            write_config(plan.folder, config)
            write_summary(plan.folder, {**_facts(config, plan), **ending(error)})


def _facts(config: DictConfig, plan: Plan) -> dict[str, Any]:
    return {"name": config.name, "seed": config.seed, "overrides": list(plan.overrides), **plan.facts}


def _history(plan: Plan) -> History | None:
    """The history that loggers continue; None for a new run.

    Copies the sample grids if the run resumes in a new folder.
    """
    if plan.checkpoint is None:
        return None
    home = plan.checkpoint.path.resolve().parents[1]
    elsewhere = home != plan.folder.resolve()
    folder = plan.folder / samples.FOLDER
    if elsewhere and environment.is_first() and (home / samples.FOLDER).is_dir():
        folder.mkdir(exist_ok=True)
        for path in samples.grids(home / samples.FOLDER, plan.images_seen).values():
            shutil.copy2(path, folder)
    grids = list(samples.grids(folder, plan.images_seen).items())
    return History(plan.images_seen, read_rows(home, plan.images_seen), grids, dict(plan.memories))


def _callbacks(config: DictConfig, plan: Plan, history: History | None, trial: Trial | None, flops: dict[Player, int]) -> list[Callback]:
    """All callbacks in order: those that others read from come first.

    A resumed run keeps its last scores until there are new ones.
    """
    last = read_summary(plan.folder) if history else {}
    speeds = {number: config.data.batch_size / seconds for number, seconds in trial.seconds.items()} if trial else {}
    facts = {**_facts(config, plan), "flops_per_image": flops}
    if speeds:
        facts["threads_tried"] = speeds
    stopwatch = Stopwatch(Budget(**config.budget))
    chosen: list[Callback] = [instantiate(node) for node in config.callbacks.values()]
    for callback in chosen:
        if isinstance(callback, Scores):
            callback.choose({str(name): instantiate(node) for name, node in config.metric.items()}, last.get("scores") or {})
    referee: list[Referee] = [instantiate(config.referee)] if config.referee else []
    schedule = Checkpoint(**config.checkpoint)
    for callback in referee:
        callback.advise(partial(_advise, plain(config), plan.overrides))
        if callback.act == "rollback":
            schedule = _reaching_back(schedule, callback)
    return [
        stopwatch,
        *referee,
        *chosen,
        Pace(trial.updates / trial.seconds[trial.threads] if trial else 0.0),
        Checkpoints(schedule, plan.identity, dict(history.memories) if history else {}),
        Summary(stopwatch, facts),
    ]


def _sweep(config: DictConfig, plan: Plan) -> list[str]:
    """The tag of the runs of a sweep, of a study or of a search."""
    named = sets(plan.overrides, "sweep")
    return [(Path(config.sweep) if named else plan.folder.parent).name[-MOST_IN_TAG:]] if named or plan.in_sweep else []


def _group(config: DictConfig, overrides: Sequence[str]) -> str:
    """What runs that differ by their seeds alone have in common: names, and the other settings.

    The trials of a search are one group, which is called like its folder.
    """
    if sets(overrides, "sweep") and (Path(config.sweep) / SEARCH).is_file():
        return Path(config.sweep).name[-MOST_IN_GROUP:]
    told = {f"{part}={family(config[part])}" for part in ("data", "model", "loss")}  # model=dcgan_paper is a dcgan, and not told yet
    chosen = [word for word in without(overrides, "seed", "trick") if word not in told]
    others = [word for word in chosen if (name := setting_of(word)).startswith("budget") or not is_free(name)]
    group = " ".join(["_".join(tags(config)), *sorted(others)])
    if len(group) <= MOST_IN_GROUP:
        return group
    digest = hashlib.sha256(group.encode()).hexdigest()[:8]
    return f"{group[: MOST_IN_GROUP - len(digest) - 1]} {digest}"


def _reaching_back(schedule: Checkpoint, referee: Referee) -> Checkpoint:
    """A schedule that keeps a checkpoint from before the looks by which a rule finds a failure."""
    often = min(referee.every_images, schedule.every_images or referee.every_images)
    saves = math.ceil((referee.longest() + 1) * referee.every_images / often)
    return replace(schedule, every_images=often, keep=max(schedule.keep, 2 * saves))  # others are saved after seconds


def _advise(config: dict[str, Any], overrides: Sequence[str], what: Advice) -> tuple[str, str] | None:
    """Advice of the referee as an override, and as the command of a run with it."""
    change = advice.change(config, overrides, what)
    return None if change is None else (change, advice.command(overrides, change))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's advice, which is about loops and loggers that are not used here."""
    names = ("pytorch_lightning", "lightning_fabric", "pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.rank_zero")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|torchmetrics")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
