"""Running the entry scripts: an error becomes one line and an exit code."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from twoplayer.commands import preflight, terminal
from twoplayer.commands.help import help_page
from twoplayer.commands.messages import print_error
from twoplayer.commands.words import refuse_words
from twoplayer.hydra_private import BASIC_LAUNCHER


def run(main: Callable[[], Any]) -> None:
    """Run a Hydra entry point; print an error as one line and exit with its code."""
    terminal.outlive()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors instead of printing them
    try:
        script, words = Path(sys.argv[0]).stem, sys.argv[1:]
        refuse_words(script, words)
        if script != "train" and {"--help", "-h"} & {*words}:
            print(help_page(script))
            return
        main()
    except KeyboardInterrupt:  # before training: nothing to save
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        sys.exit(print_error(error))
    finally:
        try:
            preflight.show_sweep()
        except Exception as error:  # such as a full disk, which has ended the sweep
            print_error(error)


def job(config: DictConfig) -> float | None:
    """Train one run or one job of a multirun.

    Returns what a sweeper can minimize: the leading score on the validation split, negated if more
    is better, or None. An error exits a single run; in a multirun it is printed at once, and Hydra
    continues with the next job.
    """
    from twoplayer.commands import leaderboard
    from twoplayer.metrics.recorded import objective
    from twoplayer.runs.rollback import train_with_rollback
    from twoplayer.signals import Interruption, received

    whose = _whose()
    _name_lines(whose)
    try:
        score = objective(train_with_rollback(config, preflight.plan_of(config)))  # only rank 0 has a summary
    except Exception as error:
        code = print_error(error, config.debug, whose)
        if HydraConfig.get().mode == RunMode.MULTIRUN and not (isinstance(error, Interruption) or received()):
            raise
        sys.exit(code)
    finally:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            leaderboard.write(Path(HydraConfig.get().sweep.dir))
    return score


def _whose() -> str:
    """The number of this job, if the jobs of a multirun run at once: `[2] `; empty otherwise."""
    settings = HydraConfig.get()
    at_once = settings.mode == RunMode.MULTIRUN and settings.launcher._target_ != BASIC_LAUNCHER
    return f"[{settings.job.num + 1}] " if at_once else ""


def _name_lines(whose: str) -> None:
    """Let each line on the terminal say whose it is."""
    if whose:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                handler.setFormatter(logging.Formatter(f"{whose}%(message)s"))


def call(config: DictConfig) -> None:
    """Check and call the `_target_` of the configuration with its other settings as arguments."""
    from hydra.utils import instantiate

    from twoplayer.config.check import check_call

    try:
        check_call(config)
        instantiate(config)
    except Exception as error:
        sys.exit(print_error(error))
