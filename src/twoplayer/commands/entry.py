"""What surrounds an entry script: checks before a run has a folder, and one line and an exit code for what goes wrong."""

import itertools
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import ConfigCompositionException, HydraException, InstantiationException, MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, read_write
from omegaconf.errors import OmegaConfBaseException

from twoplayer import CONF
from twoplayer.commands import terminal
from twoplayer.commands.words import refuse_words
from twoplayer.distributed import environment
from twoplayer.errors import ConfigurationError, NumericsError, TwoplayerError, out_of_resources, unknown

log = logging.getLogger(__name__)


def run(main: Callable[[], Any]) -> None:
    """Run a Hydra entry point; errors that one line explains end in that line and their exit code."""
    terminal.outlive()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing, so that the printing is ours
    try:
        refuse_words(Path(sys.argv[0]).stem, sys.argv[1:])
        main()
    except KeyboardInterrupt:  # before there was anything to save
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        sys.exit(report(error))


def job(config: DictConfig) -> float | None:
    """Train. Returns the final score on the validation split, which a sweeper can minimize; None where there are no scores.

    An error ends a single run at once; in a multirun it is told when it happens, and Hydra goes on with the next job.
    """
    from twoplayer.runs.train import train
    from twoplayer.signals import Interruption, received

    try:
        score: float | None = train(config).get("fd_validation")  # only the first rank has a summary
    except Exception as error:
        code = report(error, config.debug)
        if HydraConfig.get().mode == RunMode.MULTIRUN and not (isinstance(error, Interruption) or received()):
            raise
        sys.exit(code)
    return score


def call(config: DictConfig) -> None:
    """Call what the configuration itself is the `_target_` and arguments of."""
    from hydra.utils import instantiate

    from twoplayer.config.check import check_call

    try:
        check_call(config)
        instantiate(config)
    except Exception as error:
        sys.exit(report(error))


def report(error: Exception, debug: bool = False) -> int:
    """Print what a user needs of an error, once, and return its exit code."""
    reported = error
    if isinstance(error, InstantiationException) and isinstance(error.__cause__, TwoplayerError):
        error = error.__cause__
    error = (not isinstance(error, TwoplayerError) and out_of_resources(error)) or error
    code = (
        error.exit_code
        if isinstance(error, TwoplayerError)
        else ConfigurationError.exit_code
        if isinstance(error, HydraException | OmegaConfBaseException)
        else 1
    )
    if not getattr(reported, "reported", False):
        reported.reported = True  # type: ignore[attr-defined]
        if (code == 1 and not isinstance(error, TwoplayerError)) or debug or "debug=true" in sys.argv:
            traceback.print_exception(reported)
        if environment.is_first():
            print(f"error: {explain(error)}", file=sys.stderr, flush=True)
            _note(f"error: {explain(error)}")
        elif code != NumericsError.exit_code and code < 128:  # which all ranks meet alike, and the first tells
            print(f"error of another rank: {explain(error)}", file=sys.stderr, flush=True)
    return code


def _note(message: str) -> None:
    """Into train.log, while a run has one, and not onto the terminal, where it stands already."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, message, (), None))


def explain(error: Exception) -> str:
    """One line about an error of ours or of Hydra's."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"{group}={name}: " + unknown(
            name, error.options or (path.stem for path in (CONF / group).glob("*.yaml")), kind=f"choice of {group}"
        )
    message = str(error)
    cause = f"{message}\n{error.__cause__ or ''}"
    if isinstance(error, ConfigCompositionException) and (key := re.search(r"full_key: (\S+)", cause)):
        return _unknown_setting(key[1])
    if isinstance(error, OverrideParseException):
        return f"{message.splitlines()[0]} (an override is written name=value; quote it where it holds brackets or spaces)"
    return " ".join(message.split()) or type(error).__name__


def _unknown_setting(name: str) -> str:
    """One line about a setting that the present choices do not have."""
    GlobalHydra.instance().clear()
    words = [word for word in sys.argv[1:] if "," not in word and (CONF / re.split("[=@]", word)[0]).is_dir()]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(Path(sys.argv[0]).stem, words)
    group, _, choice = name.partition(".")
    choice = choice.partition(".")[0]
    if group == "trick" and choice not in config.trick and (CONF / group / f"{choice}.yaml").exists():
        return f"{name}: this trick is not chosen; choose it with 'trick=[{choice}]'"
    parent, prefix = config, ""
    while "." in name.removeprefix(prefix) and isinstance(inner := parent.get(name.removeprefix(prefix).partition(".")[0]), DictConfig):
        prefix += name.removeprefix(prefix).partition(".")[0] + "."
        parent = inner
    return unknown(name, [prefix + str(key) for key in parent if not str(key).startswith("_")])


class Check(Callback):
    """Checks configuration and data before Hydra makes a folder; a multirun checks all of its jobs before the first, where they are known."""

    def __init__(self) -> None:
        self._num_jobs: int | None = None

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """An ordinary exception here would only be a warning of Hydra's."""
        try:
            _check(config)
            self._plan(config)
        except Exception as error:
            sys.exit(report(error, config.get("debug") is True))

    def _plan(self, config: DictConfig) -> None:
        """Hydra is led into the folder in which the run goes on."""
        from twoplayer.config.check import make_folder
        from twoplayer.runs.train import prepare
        from twoplayer.storage import lock

        named = any(override.lstrip("+").startswith("run=") for override in config.hydra.overrides.task)
        if environment.by_others() and not named:
            raise ConfigurationError(
                "run is missing: where several processes are started by torchrun or SLURM, name the folder that they share with run=<folder>"
            )
        if named and environment.is_first() and Path(config.run).is_dir():
            lock.acquire(Path(config.run))  # first of all: what another process is about to write is not to be read
        planned = prepare(config, Path(config.run), named)
        if planned.finished:
            print(f"{planned.folder} has been played to its end already; a larger budget would continue it")
            sys.exit(0)
        if environment.is_first() and planned.folder.is_dir():
            lock.acquire(planned.folder)
        make_folder("run", planned.folder)
        config.run = str(planned.folder)

    def on_multirun_start(self, config: DictConfig, config_name: str, **kwargs: Any) -> None:
        """The basic sweeper's own expansion of its overrides, composed one by one. What another sweeper will try is not known: of its jobs
        one is checked that could be, and each when it begins.
        """
        try:
            params = (config.hydra.sweeper.get("params") or {}).items()
            parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
            overrides = parser.parse_overrides([*(f"{name}={value}" for name, value in params), *config.hydra.overrides.task])
            known = config.hydra.sweeper._target_ == f"{BasicSweeper.__module__}.{BasicSweeper.__name__}"
            if known:
                words = list(itertools.chain.from_iterable(BasicSweeper.split_arguments(overrides, max_batch_size=None)))
                self._num_jobs = len(words)
            else:
                words = [[_first_value(override) for override in overrides]]
            jobs = [compose(config_name, overrides=job, return_hydra_config=True) for job in words]
            _check(*jobs)
            self._plan_sweep(config, jobs if known or config.resume is None else [])
        except Exception as error:
            sys.exit(report(error, config.get("debug") is True))

    def _plan_sweep(self, config: DictConfig, jobs: list[DictConfig]) -> None:
        """Jobs that have been begun go on in their folders, or are refused, before the first begins."""
        from twoplayer.config.check import make_folder
        from twoplayer.runs.train import prepare

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
            prepare(job, Path(config.sweep) / str(job.hydra.sweep.subdir), named=True)
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
            environment.shown(CONF.parent / "src" / "compare.py"),
            environment.setting("runs", Path(config.hydra.sweep.dir)),
        )


def _first_value(override: Override) -> str:
    """An override as it could be in a job: with the first of the values that are to be tried."""
    if not override.is_sweep_override():
        return str(override.input_line)
    value = override.value()
    first = value.start if isinstance(value, IntervalSweep) else next(iter(override.sweep_string_iterator()))
    return f"{override.get_key_element()}={first}"


def _check(*configs: DictConfig) -> None:
    """All configurations, before anything is read or fetched for the first."""
    if environment.is_first():
        log.info("loading PyTorch ...")
    from twoplayer.runs.train import refuse  # here: --help and a mistyped name do not wait for torch

    for config in configs:
        HydraConfig.instance().set_config(config)  # which a name is made of
        refuse(config)
