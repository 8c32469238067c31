"""Checks and plans before Hydra creates the folder of a run or a multirun."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, read_write

from twoplayer.commands.messages import print_error
from twoplayer.distributed import environment
from twoplayer.errors import ConfigurationError
from twoplayer.hydra_private import BASIC_SWEEPER, jobs_of
from twoplayer.overrides import sets, without
from twoplayer.paths import make_folder

if TYPE_CHECKING:  # importing it takes seconds: not for --help or a mistyped name
    from twoplayer.runs.plan import Plan

log = logging.getLogger(__name__)


class Preflight(Callback):
    """Checks configuration and data before Hydra creates a folder.

    A multirun checks all jobs before the first one starts, if they are known in advance.
    """

    plan: "ClassVar[Plan | None]" = None
    """The plan of a single run, made before its folder. Hydra hands nothing on to the job."""
    sweep: ClassVar[Path | None] = None
    """The folder of a multirun whose jobs have begun."""

    def __init__(self) -> None:
        self._num_jobs: int | None = None

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Plan the run. Exits on errors, since Hydra turns exceptions here into warnings."""
        try:
            self._plan(config)
        except Exception as error:
            sys.exit(print_error(error, config.get("debug") is True))

    def _plan(self, config: DictConfig) -> None:
        """Plan the run and set `run` to its folder, which Hydra then creates."""
        _refuse([config])
        from twoplayer.runs.plan import plan_run

        overrides = list(config.hydra.overrides.task)
        named = sets(overrides, "run")
        if environment.by_others() and not named:
            raise ConfigurationError("run is missing: processes started by torchrun or SLURM share one folder; set run=<folder>")
        plan = plan_run(config, Path(config.run) if named else None, overrides=overrides)
        if plan.finished:
            print(f"{plan.folder} has already reached its budget; set a larger budget to continue")
            sys.exit(0)
        config.run = str(plan.folder)
        Preflight.plan = plan

    def on_multirun_start(self, config: DictConfig, config_name: str, **kwargs: Any) -> None:
        """Check all jobs of the basic sweeper.

        The jobs of other sweepers are not known in advance: one possible job is checked here, and
        each job when it starts.
        """
        try:
            params = (config.hydra.sweeper.get("params") or {}).items()
            parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
            overrides = parser.parse_overrides([*(f"{name}={value}" for name, value in params), *config.hydra.overrides.task])
            known = config.hydra.sweeper._target_ == BASIC_SWEEPER
            if known:
                words = jobs_of(overrides)
                self._num_jobs = len(words)
            else:
                words = [[_first_value(override) for override in overrides]]
            jobs = [compose(config_name, overrides=job, return_hydra_config=True) for job in words]
            _refuse(jobs)
            self._plan_sweep(config, jobs if known or config.resume is None else [])
            Preflight.sweep = Path(config.hydra.sweep.dir)
        except Exception as error:
            sys.exit(print_error(error, config.get("debug") is True))

    def _plan_sweep(self, config: DictConfig, jobs: list[DictConfig]) -> None:
        """Check that all jobs can start or resume in their folders, before the first starts."""
        from twoplayer.runs.plan import look

        if config.resume not in (None, "auto"):
            raise ConfigurationError(
                f"resume={config.resume}: a checkpoint belongs to one run; resume a sweep with sweep=<its folder> resume=auto"
            )
        if config.resume == "auto" and not sets(config.hydra.overrides.task, "sweep"):
            raise ConfigurationError("resume=auto: set sweep=<its folder> to choose the sweep to resume")
        if environment.by_others():
            raise ConfigurationError(
                "a multirun cannot be started by torchrun or SLURM, since each rank would start all of its jobs; start the jobs one by one"
            )
        for number, job in enumerate(jobs):
            with read_write(job.hydra.job):
                job.hydra.job.num = number
            HydraConfig.instance().set_config(job)
            look(job, Path(config.sweep) / str(job.hydra.sweep.subdir), named=True)
        make_folder("sweep", Path(config.sweep))

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Log which job of a multirun starts."""
        if config.hydra.mode == RunMode.MULTIRUN:
            of = f" of {self._num_jobs}" if self._num_jobs else ""
            log.info("job %d%s: %s", config.hydra.job.num + 1, of, " ".join(without(config.hydra.overrides.task, "sweep", "resume")))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Show what the runs have scored, and log the commands that compare them."""
        show_sweep()


def show_sweep() -> None:
    """Show what the runs of this process's multirun have scored, once; nothing if it has none.

    Hydra does not call `on_multirun_end` if a job has failed, or if a signal ended it.
    """
    sweep, Preflight.sweep = Preflight.sweep, None
    if sweep is None:
        return
    from twoplayer.commands import leaderboard

    tables = leaderboard.write(sweep)
    if tables:
        leaderboard.show(tables)
        log.info("next")
        for command in leaderboard.next_commands(sweep, leaderboard.likely_baseline([table.rows for table in tables])):
            log.info("  %s", command)


def plan_of(config: DictConfig) -> "Plan":
    """The plan of the current job, made before its folder; a job of a multirun is planned here."""
    plan, Preflight.plan = Preflight.plan, None
    if plan is not None:
        return plan
    from twoplayer.runs.plan import plan_run

    _refuse([config])
    job = HydraConfig.get()
    return plan_run(config, Path(job.runtime.output_dir), overrides=list(job.overrides.task), in_sweep=True)


def _refuse(configs: Sequence[DictConfig]) -> None:
    """Check all configurations, before data is read or downloaded for the first."""
    if environment.is_first():
        log.info("loading PyTorch ...")
    from twoplayer.config.check import check  # which imports PyTorch

    for config in configs:
        if "hydra" in config:
            HydraConfig.instance().set_config(config)  # the names of runs refer to it
        check(config, HydraConfig.get().overrides.task)


def _first_value(override: Override) -> str:
    """An override of one possible job: with the first value of a sweep."""
    if not override.is_sweep_override():
        return str(override.input_line)
    value = override.value()
    first = value.start if isinstance(value, IntervalSweep) else next(iter(override.sweep_string_iterator()))
    return f"{override.get_key_element()}={first}"
