"""Data parallel training: one process per rank, the others started by the first and watched over.

Lightning's DDP wrapper reduces gradients behind `loss.backward()`, which does not fit two players
with `backward(inputs=...)`: it would not reduce at all, and say nothing. So the module stays
unwrapped, and the game reduces what it has to.

torchrun's agent does not start these ranks, though the ranks can be started by it. It runs every
rank in a child, so that `train` could not be rank 0 in its caller and return a summary; it leaves
its signal handlers in the caller, ends a run that `nohup` protects, sends the survivors of a dead
rank the SIGTERM that also asks for a save, kills a rank that is still in its iteration after 30 s,
and its ranks outlive it after `kill -9`. (torch 2.15; `start_processes` of
torch.distributed.elastic can leave rank 0 to its caller, and then saves no more than the `Popen`.)
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from torch import distributed, nn

from twoplayer.distributed import environment, ranks
from twoplayer.errors import RankError
from twoplayer.lightning_private import SelfLaunchedStrategy

log = logging.getLogger(__name__)

RANK_MODULE = "twoplayer.commands.rank"
"""What another local rank runs. It reads its plan from standard input."""


class GameStrategy(SelfLaunchedStrategy):
    """Ranks without the DDP wrapper: what they share is broadcast once at the start and reduced by the game.

    The other local ranks are given `plan`, as JSON.
    """

    def __init__(self, plan: Mapping[str, Any]) -> None:
        super().__init__(self._start)
        self._plan = plan

    def configure_ddp(self) -> None:
        """Start all ranks from the same parameters and shared buffers."""
        assert isinstance(self.model, nn.Module)
        with torch.no_grad():
            ranks.broadcast_in_place([tensor for _, tensor in self.lightning_module.shared_state()])  # type: ignore[union-attr, operator]

    def on_exception(self, exception: BaseException) -> None:
        """Wait for the other ranks here: this one has its own error to report."""
        release_children()

    def _start(self, cluster: ClusterEnvironment, num_processes: int, num_nodes: int) -> list[subprocess.Popen[bytes]]:
        log.info("starting %d ranks ...", num_processes)
        os.environ |= {
            "MASTER_ADDR": cluster.main_address,
            "MASTER_PORT": str(cluster.main_port),
            "NODE_RANK": str(cluster.node_rank()),
            "LOCAL_RANK": "0",
            "WORLD_SIZE": str(num_processes * num_nodes),
        }
        plan = json.dumps(self._plan).encode()
        _children[:] = [_start_rank(number, plan) for number in range(1, num_processes)]
        threading.Thread(target=_watch, args=(list(_children),), daemon=True).start()
        return _children


def _start_rank(number: int, plan: bytes) -> subprocess.Popen[bytes]:
    """Another process with this one's import path, so that it can import what this one can."""
    variables = {
        "LOCAL_RANK": str(number),
        "RANK": str(number),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        environment.PARENT: str(os.getpid()),
    }
    child = subprocess.Popen([sys.executable, "-m", RANK_MODULE], env=os.environ | variables, stdin=subprocess.PIPE)
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError), child.stdin:  # a child that has died is noticed by the watch
        child.stdin.write(plan)
    return child


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
    """Kill the other local ranks."""
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
    return RankError(f"rank {ranks.rank()} has lost the connection to the others, one of which may say why ({detail})", exit_code=1)


def explain_death(rank: int, code: int) -> RankError:
    """One line about a rank that has died."""
    if code == -signal.SIGKILL:
        how = "was killed, as a system does that runs out of memory (then lower data.batch_size)"
        return RankError(f"rank {rank} {how}; the run goes on from its last checkpoint with resume=auto", exit_code=5)
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}, and says why above"
    return RankError(f"rank {rank} {how}; the run goes on from its last checkpoint with resume=auto", exit_code=code if code > 0 else 1)


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
