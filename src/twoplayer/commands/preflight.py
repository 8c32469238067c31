"""What is checked and planned before Hydra makes the folder of a run or of a multirun."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from twoplayer.paths import CONF, make_folder, setting, shown

if TYPE_CHECKING:  # importing it takes seconds, which --help and a mistyped name do not wait for
    from twoplayer.runs.plan import Plan

log = logging.getLogger(__name__)

_plans: "list[Plan]" = []


class Preflight(Callback):
    """Checks configuration and data before Hydra makes a folder; a multirun checks all of its jobs before the first, where they are known."""

    def __init__(self) -> None:
        self._num_jobs: int | None = None

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """An ordinary exception here would only be a warning of Hydra's."""
        try:
            self._plan(config)
        except Exception as error:
            sys.exit(print_error(error, config.get("debug") is True))

    def _plan(self, config: DictConfig) -> None:
        """Plan the run; Hydra then makes the folder that the plan names."""
        _refuse([config])
        from twoplayer.runs.plan import plan_run

        overrides = list(config.hydra.overrides.task)
        named = any(override.lstrip("+").startswith("run=") for override in overrides)
        if environment.by_others() and not named:
            raise ConfigurationError(
                "run is missing: where several processes are started by torchrun or SLURM, name the folder that they share with run=<folder>"
            )
        plan = plan_run(config, Path(config.run) if named else None, overrides=overrides)
        if plan.finished:
            print(f"{plan.folder} has reached its budget already; a larger budget would continue it")
            sys.exit(0)
        config.run = str(plan.folder)
        _plans.append(plan)

    def on_multirun_start(self, config: DictConfig, config_name: str, **kwargs: Any) -> None:
        """The basic sweeper's own expansion of its overrides, composed one by one. What another sweeper will try is not known: of its jobs
        one is checked that could be, and each when it begins.
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
        except Exception as error:
            sys.exit(print_error(error, config.get("debug") is True))

    def _plan_sweep(self, config: DictConfig, jobs: list[DictConfig]) -> None:
        """Jobs that have been begun go on in their folders, or are refused, before the first begins."""
        from twoplayer.runs.plan import look

        if config.resume not in (None, "auto"):
            raise ConfigurationError(
                f"resume={config.resume}: a checkpoint is of one run; continue a sweep with sweep=<its folder> resume=auto"
            )
        if config.resume == "auto" and not any(override.startswith("sweep=") for override in config.hydra.overrides.task):
            raise ConfigurationError("resume=auto: name the sweep to continue with sweep=<its folder>")
        if environment.by_others():
            raise ConfigurationError(
                "a multirun cannot be played by ranks that torchrun or SLURM has started, as each would start all of it; start its jobs one by one"
            )
        for number, job in enumerate(jobs):
            with read_write(job.hydra.job):
                job.hydra.job.num = number
            HydraConfig.instance().set_config(job)
            look(job, Path(config.sweep) / str(job.hydra.sweep.subdir), named=True)
        make_folder("sweep", Path(config.sweep))

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Say which job of a multirun begins."""
        if config.hydra.mode == RunMode.MULTIRUN:
            of = f" of {self._num_jobs}" if self._num_jobs else ""
            chosen = [override for override in config.hydra.overrides.task if not override.startswith(("sweep=", "resume="))]
            log.info("job %d%s: %s", config.hydra.job.num + 1, of, " ".join(chosen))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Say how its runs are compared."""
        log.info(
            "next\n  python %s %s",
            shown(CONF.parent / "src" / "compare.py"),
            setting("runs", Path(config.hydra.sweep.dir)),
        )


def plan_of(config: DictConfig) -> "Plan":
    """The plan of the present job: made before its folder, or now for a job of a multirun."""
    if _plans:
        return _plans.pop()
    from twoplayer.runs.plan import plan_run

    _refuse([config])
    job = HydraConfig.get()
    return plan_run(config, Path(job.runtime.output_dir), overrides=list(job.overrides.task), in_sweep=True)


def _refuse(configs: Sequence[DictConfig]) -> None:
    """Check all configurations, before anything is read or fetched for the first."""
    if environment.is_first():
        log.info("loading PyTorch ...")
    from twoplayer.config.check import check  # which imports PyTorch

    for config in configs:
        if "hydra" in config:
            HydraConfig.instance().set_config(config)  # names of runs refer to it
        check(config, HydraConfig.get().overrides.task)


def _first_value(override: Override) -> str:
    """An override as it could be in a job: with the first of the values that are to be tried."""
    if not override.is_sweep_override():
        return str(override.input_line)
    value = override.value()
    first = value.start if isinstance(value, IntervalSweep) else next(iter(override.sweep_string_iterator()))
    return f"{override.get_key_element()}={first}"
