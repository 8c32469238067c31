"""Uses of private parts of Hydra and OmegaConf; tests/test_private_parts.py tests each.

Hydra has no public way to expand the overrides of a multirun before its first job starts, when all
jobs have to be checked.
"""

import itertools
from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

BASIC_LAUNCHER = f"{BasicLauncher.__module__}.{BasicLauncher.__name__}"
BASIC_SWEEPER = f"{BasicSweeper.__module__}.{BasicSweeper.__name__}"


def jobs_of(overrides: Sequence[Override]) -> list[list[str]]:
    """The overrides of each job that Hydra's basic sweeper would run."""
    return list(itertools.chain.from_iterable(BasicSweeper.split_arguments(list(overrides), max_batch_size=None)))


def unresolved_node(config: DictConfig, key: str) -> Any:
    """A node of a configuration as written, with references and `???` unresolved."""
    return config._get_node(key)
