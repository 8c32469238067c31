"""Data parallel training: each rank plays on its slice of the batch, and one all-reduce per update keeps all ranks alike.

Lightning's DDP wrapper reduces gradients behind `loss.backward()`, which does not fit two players with `backward(inputs=...)`:
it would not reduce at all, and say nothing. So the module stays unwrapped, and the game reduces what it has to.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, distributed, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

RANK_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED", "PL_SEED_WORKERS")


def world_size() -> int:
    """The number of ranks; 1 without a process group."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """This process among all ranks; 0 without a process group."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the process that speaks and writes for all; known before there is a process group."""
    return bool(rank_zero_only.rank == 0)  # type: ignore[attr-defined]


def mean(value: Tensor) -> Tensor:
    """The mean of a tensor over all ranks; the tensor itself on one."""
    if world_size() == 1:
        return value
    total = value.clone()
    distributed.all_reduce(total)
    return total.div_(world_size())


def average_in_place(tensors: Sequence[Tensor]) -> None:
    """Replace floating-point tensors by their means over all ranks, in one all-reduce."""
    if world_size() == 1:
        return
    flat = _flatten_dense_tensors(tensors)
    distributed.all_reduce(flat)
    for tensor, average in zip(tensors, _unflatten_dense_tensors(flat.div_(world_size()), tensors), strict=True):
        tensor.copy_(average)


def broadcast_in_place(tensors: Sequence[Tensor]) -> None:
    """Give all ranks what rank 0 has."""
    if world_size() > 1:
        for tensor in tensors:
            distributed.broadcast(tensor, 0)


class GameStrategy(DDPStrategy):
    """Ranks without the DDP wrapper: what they share is broadcast once at the start and reduced by the game."""

    def configure_ddp(self) -> None:
        """Start all ranks from the same parameters and shared buffers."""
        assert isinstance(self.model, nn.Module)
        with torch.no_grad():
            broadcast_in_place([tensor for _, tensor in self.lightning_module.shared_state()])  # type: ignore[union-attr, operator]

    def on_exception(self, exception: BaseException) -> None:
        """This rank has its own error to tell, and ends the others itself."""
        release_children()

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)


class _Launcher(_SubprocessScriptLauncher):
    """Starts the other local ranks as runs of this job alone.

    Lightning repeats the command line, which in a multirun starts the whole sweep once more. A child gets the overrides of this
    job instead, and this job's folder.
    """

    def _call_children_scripts(self) -> None:
        self._check_can_spawn_children()
        os.environ |= {
            "MASTER_ADDR": self.cluster_environment.main_address,
            "MASTER_PORT": str(self.cluster_environment.main_port),
            "NODE_RANK": str(self.cluster_environment.node_rank()),
            "LOCAL_RANK": "0",
            "WORLD_SIZE": str(self.num_processes * self.num_nodes),
        }
        commands = [(child_command(), os.environ | {"LOCAL_RANK": str(rank)}) for rank in range(1, self.num_processes)]
        _children[:] = [subprocess.Popen(command, env=environment) for command, environment in commands]
        self.procs = _children


_children: list[subprocess.Popen[bytes]] = []
"""The other local ranks of the present job. Lightning's observer, which kills this process where one of them fails, watches this very list."""


def release_children(patience: float = 10.0) -> None:
    """Wait for the other local ranks, and end those that do not end by themselves; from now on nobody watches them."""
    children, _children[:] = list(_children), []
    for child in children:
        try:
            child.wait(patience)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def child_command() -> list[str]:
    """The command that plays this Hydra job on another local rank."""
    job = HydraConfig.get()
    folder = str(Path(job.runtime.output_dir).resolve()).replace("'", r"\'")
    overrides = [override for override in job.overrides.task if override.split("=")[0] not in ("run", "sweep")]
    return [
        sys.executable,
        str(Path(sys.argv[0]).resolve()),
        *overrides,
        f"run='{folder}'",
        "hydra.mode=RUN",
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
    ]


@contextlib.contextmanager
def one_job() -> Iterator[None]:
    """Leaves nothing of a data parallel job behind for the next job of a multirun, which may want another number of ranks."""
    launched, threads, variable = "LOCAL_RANK" not in os.environ, torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    try:
        yield
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
        release_children()
        if launched:
            for name in (*RANK_VARIABLES, "OMP_NUM_THREADS"):
                os.environ.pop(name, None)
            if variable is not None:
                os.environ["OMP_NUM_THREADS"] = variable
            torch.set_num_threads(threads)
