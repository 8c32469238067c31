"""Data parallel training: each rank plays on its slice of the batch, and one all-reduce per update keeps all ranks alike.

Lightning's DDP wrapper reduces gradients behind `loss.backward()`, which does not fit two players with `backward(inputs=...)`:
it would not reduce at all, and say nothing. So the module stays unwrapped, and the game reduces what it has to.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import Tensor, distributed, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from twoplayer.distributed import environment
from twoplayer.errors import RankError

log = logging.getLogger(__name__)


def world_size() -> int:
    """The number of ranks; 1 without a process group."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """This process among all ranks; 0 without a process group."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def mean(value: Tensor) -> Tensor:
    """The mean of a tensor over all ranks; the tensor itself on one."""
    if world_size() == 1:
        return value
    total = value.clone()
    distributed.all_reduce(total)
    return total.div_(world_size())


def average_in_place(tensors: Sequence[Tensor]) -> None:
    """Replace floating-point tensors by their means over all ranks, in one all-reduce."""
    flat = _flatten_dense_tensors(tensors)
    distributed.all_reduce(flat)
    for tensor, average in zip(tensors, _unflatten_dense_tensors(flat.div_(world_size()), tensors), strict=True):
        tensor.copy_(average)


def gather(tensor: Tensor) -> list[Tensor]:
    """The tensors of all ranks, of the same shape on each, in the order of ranks."""
    if world_size() == 1:
        return [tensor]
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    distributed.all_gather(parts, tensor.contiguous())
    return parts


def concatenate(own: Tensor) -> Tensor:
    """The rows of all ranks, in the order of ranks, for a cost of the whole batch that each rank computes alike.

    Gradients reach this rank's own rows alone, multiplied by the number of ranks: the mean of all ranks' gradients is then that of the cost.
    """
    if world_size() == 1:
        return own
    parts = gather(own.detach())
    parts[rank()] = own.detach() + world_size() * (own - own.detach())
    return torch.cat(parts)


class Vote:
    """What any of the ranks wants, known to all of them at the same iteration. Nobody waits: what is asked after one iteration is
    answered after the next.
    """

    def __init__(self) -> None:
        self._asked: tuple[Tensor, Any] | None = None
        self._group: Any = None

    def cast(self, *wishes: int, wait: bool = False) -> tuple[int, ...]:
        """For each wish the largest of all ranks: those of the last iteration, or with `wait` the present ones. Called by all ranks alike."""
        if world_size() == 1:
            return wishes
        if self._group is None:  # the wishes are on the CPU, whatever the game is played on
            self._group = distributed.new_group(backend="gloo")
        last = self._take()
        tensor = torch.tensor(wishes)
        self._asked = tensor, distributed.all_reduce(tensor, distributed.ReduceOp.MAX, self._group, async_op=True)
        return self._take() if wait else last or (0,) * len(wishes)

    def _take(self) -> tuple[int, ...]:
        if self._asked is None:
            return ()
        (tensor, work), self._asked = self._asked, None
        work.wait()
        return tuple(tensor.tolist())


def broadcast_in_place(tensors: Sequence[Tensor]) -> None:
    """Give all ranks what rank 0 has."""
    if world_size() > 1:
        for tensor in tensors:
            distributed.broadcast(tensor, 0)


class GameStrategy(DDPStrategy):
    """Ranks without the DDP wrapper: what they share is broadcast once at the start and reduced by the game.

    `checkpoint` is what all ranks go on from.
    """

    def __init__(self, checkpoint: Path | None = None) -> None:
        super().__init__()
        self._checkpoint = checkpoint

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
        self._launcher.checkpoint = self._checkpoint


class _Launcher(_SubprocessScriptLauncher):
    """Starts the other local ranks as runs of this job alone.

    Lightning repeats the command line, which in a multirun starts the whole sweep once more. A child gets the overrides of this
    job instead, and this job's folder. Where others have started the ranks (torchrun, SLURM), it starts none.
    """

    checkpoint: Path | None = None

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Start the ranks and watch over them, then do this rank's part."""
        assert self.cluster_environment is not None
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            threading.Thread(target=_watch, args=(list(_children),), daemon=True).start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)

    def _call_children_scripts(self) -> None:
        self._check_can_spawn_children()
        log.info("starting %d ranks ...", self.num_processes)
        os.environ |= {
            "MASTER_ADDR": self.cluster_environment.main_address,
            "MASTER_PORT": str(self.cluster_environment.main_port),
            "NODE_RANK": str(self.cluster_environment.node_rank()),
            "LOCAL_RANK": "0",
            "WORLD_SIZE": str(self.num_processes * self.num_nodes),
        }
        commands = [
            (child_command(self.checkpoint), os.environ | {"LOCAL_RANK": str(rank), "RANK": str(rank)})
            for rank in range(1, self.num_processes)
        ]
        _children[:] = [subprocess.Popen(command, env=environment) for command, environment in commands]
        self.procs = _children


_children: list[subprocess.Popen[bytes]] = []
"""The other local ranks of the present job."""

_casualties: list[tuple[int, int]] = []
"""Those that have died by themselves: rank and how (an exit code, or minus a signal)."""

PATIENCE = 5.0


def _watch(children: list[subprocess.Popen[bytes]]) -> None:
    """A rank that dies leaves the others waiting in a collective, on a GPU for minutes. Ends this process where it does not notice by itself."""
    while any(child.poll() is None for child in children) and not any(child.returncode for child in children):
        time.sleep(0.2)
    dead = [(rank, child.returncode) for rank, child in enumerate(children, 1) if child.returncode]
    time.sleep(PATIENCE if dead else 0)
    if dead and children == _children:  # nobody has released them: this rank hangs
        end_children()
        error = explain_death(*dead[0])
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(error.exit_code)


def end_children() -> None:
    """There and then."""
    for child in _children:
        if child.poll() is None:
            child.kill()


def release_children(patience: float = 10.0) -> None:
    """Wait for the other local ranks, and end those that do not end by themselves; from now on nobody watches them."""
    children, _children[:] = list(_children), []
    until = time.monotonic() + patience
    for rank, child in enumerate(children, 1):
        try:
            if child.wait(max(0.0, until - time.monotonic())):
                _casualties.append((rank, child.returncode))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def explain_loss(error: BaseException) -> RankError | None:
    """What lies behind an error of a collective, which only says that the connection to another rank is lost; None for other errors."""
    if not isinstance(error, RuntimeError) or not any(word in str(error) for word in ("gloo", "NCCL", "Connection", "connection")):
        return None
    if _casualties:
        return explain_death(*_casualties[0])
    detail = " ".join(str(error).split())[:160]
    return RankError(f"rank {rank()} has lost the connection to the others, one of which may say why ({detail})", exit_code=1)


def explain_death(rank: int, code: int) -> RankError:
    """One line about a rank that has died."""
    if code == -signal.SIGKILL:
        how = "was killed, as a system does that runs out of memory (then lower data.batch_size)"
        return RankError(f"rank {rank} {how}; the run goes on from its last checkpoint with resume=auto", exit_code=5)
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}, and says why above"
    return RankError(f"rank {rank} {how}; the run goes on from its last checkpoint with resume=auto", exit_code=code if code > 0 else 1)


def child_command(checkpoint: Path | None = None) -> list[str]:
    """The command that plays this Hydra job on another local rank, from the same checkpoint."""
    job = HydraConfig.get()
    overrides = [override for override in job.overrides.task if override.split("=")[0] not in ("run", "sweep", "resume")]
    if checkpoint is not None:
        overrides.append(f"resume={_quoted(checkpoint)}")
    return [
        sys.executable,
        str(Path(sys.argv[0]).resolve()),
        *overrides,
        f"run={_quoted(Path(job.runtime.output_dir))}",
        "hydra.mode=RUN",
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
    ]


def _quoted(path: Path) -> str:
    """As Hydra's grammar wants it."""
    return "'" + str(path.resolve()).replace("\\", "\\\\").replace("'", r"\'") + "'"


@contextlib.contextmanager
def one_job() -> Iterator[None]:
    """Leaves nothing of a data parallel job behind for the next job of a multirun, which may want another number of ranks."""
    _casualties.clear()
    launched, threads, variable = (
        "LOCAL_RANK" not in os.environ and not environment.by_others(),
        torch.get_num_threads(),
        os.environ.get("OMP_NUM_THREADS"),
    )
    try:
        yield
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
        release_children()
        if launched:
            for name in (*environment.RANK_VARIABLES, "OMP_NUM_THREADS"):
                os.environ.pop(name, None)
            if variable is not None:
                os.environ["OMP_NUM_THREADS"] = variable
            torch.set_num_threads(threads)
