"""What surrounds an entry script: one line and an exit code for what goes wrong."""

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
from twoplayer.commands.messages import print_error
from twoplayer.commands.words import refuse_words


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
        sys.exit(print_error(error))


def job(config: DictConfig) -> float | None:
    """Train. Returns what a sweeper can minimize: the leading score on the validation split, turned so that less is better, or None.

    An error ends a single run at once. In a multirun it is reported when it happens, and Hydra
    goes on with the next job.
    """
    from twoplayer.metrics.recorded import objective
    from twoplayer.runs.train import train
    from twoplayer.signals import Interruption, received

    try:
        score = objective(train(config, preflight.plan_of(config)))  # only the first rank has a summary
    except Exception as error:
        code = print_error(error, config.debug)
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
        sys.exit(print_error(error))
