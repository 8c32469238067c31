"""Uses of private parts of Lightning; tests/test_private_parts.py tests each.

- The trainer's signal handlers call collectives inside the handler; ours only record the signal.
- Its step counter counts the optimizers that it wraps; the players' optimizers are not wrapped.
- Its launcher repeats the command line for each rank; in a multirun each rank would start the whole
  sweep.
"""

import subprocess
from collections.abc import Callable
from typing import Any

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

StartRanks = Callable[[ClusterEnvironment, int, int], list[subprocess.Popen[bytes]]]
"""Starts the other local ranks, from (environment, processes on this node, nodes)."""


def ignore_signals(trainer: Trainer) -> None:
    """Prevent the trainer from replacing signal handlers."""
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]


def count_step(trainer: Trainer) -> None:
    """Add one optimizer step to the trainer's counter."""
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    progress.increment_ready()
    progress.increment_completed()


class SelfLaunchedStrategy(DDPStrategy):
    """DDP whose local ranks are started by `start_ranks`, unless torchrun or SLURM started them."""

    def __init__(self, start_ranks: StartRanks) -> None:
        super().__init__()
        self._start_ranks = start_ranks

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)
        self._launcher.start_ranks = self._start_ranks


class _Launcher(_SubprocessScriptLauncher):
    start_ranks: StartRanks

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Start the other ranks, then call `function` in this one."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._check_can_spawn_children()
            self.procs = self.start_ranks(self.cluster_environment, self.num_processes, self.num_nodes)
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)
