"""Data parallel training: one process per rank; rank 0 starts and watches the others on its node.

Lightning's DDP wrapper reduces gradients inside `loss.backward()`. With two players and
`backward(inputs=...)` it silently reduces nothing. So the module stays unwrapped, and the game
reduces its gradients itself.

Why these ranks are not started with torchrun's agent (torch 2.15), although users can start them
with torchrun:

- It runs every rank in a child process, so `train` could not be rank 0 in its caller and return a
  summary. `start_processes` of torch.distributed.elastic can leave rank 0 to the caller, but then
  replaces no more than the `Popen` here.
- It leaves its signal handlers in the caller and ends a run that `nohup` protects.
- When a rank dies, it sends the others SIGTERM, which here also requests a save, and kills those
  whose iteration takes longer than 30 s.
- Its ranks outlive it after `kill -9`.
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
"""The module that another local rank runs. It reads its plan from standard input."""


class GameStrategy(SelfLaunchedStrategy):
    """DDP without its wrapper: shared state is broadcast once at the start and reduced by the game.

    The other local ranks receive `plan` as JSON.
    """

    def __init__(self, plan: Mapping[str, Any]) -> None:
        super().__init__(self._start)
        self._plan = plan

    def configure_ddp(self) -> None:
        """Broadcast parameters and shared buffers from rank 0."""
        assert isinstance(self.model, nn.Module)
        with torch.no_grad():
            ranks.broadcast_in_place([tensor for _, tensor in self.lightning_module.shared_state()])  # type: ignore[union-attr, operator]

    def on_exception(self, exception: BaseException) -> None:
        """Wait for the other ranks, so that this rank can report its own error first."""
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
    """Start one rank with the import path of this process, and send it the plan."""
    variables = {
        "LOCAL_RANK": str(number),
        "RANK": str(number),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        environment.PARENT: str(os.getpid()),
    }
    child = subprocess.Popen([sys.executable, "-m", RANK_MODULE], env=os.environ | variables, stdin=subprocess.PIPE)
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError), child.stdin:  # _watch reports a child that died
        child.stdin.write(plan)
    return child


_children: list[subprocess.Popen[bytes]] = []
"""The other local ranks of the current job."""

_dead_ranks: list[tuple[int, int]] = []
"""Ranks that died without being killed here, each with its exit code, or minus its signal."""

PATIENCE = 5.0
"""Seconds that this rank has to end by itself after another one died."""


def _watch(children: list[subprocess.Popen[bytes]]) -> None:
    """End this process when another rank has died and this one hangs.

    The others can wait minutes in a collective with a dead rank. Keeps watching the remaining ranks
    after one exits cleanly.
    """
    while any(child.poll() is None for child in children) and not any(child.returncode for child in children):
        time.sleep(0.2)
    dead = [(rank, child.returncode) for rank, child in enumerate(children, 1) if child.returncode]
    time.sleep(PATIENCE if dead else 0)
    if dead and children == _children:  # not released: this rank hangs
        end_children()
        error = dead_rank_error(*dead[0])
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(error.exit_code)


def end_children() -> None:
    """Kill the other local ranks."""
    for child in _children:
        if child.poll() is None:
            child.kill()


def release_children(patience: float = 10.0) -> None:
    """Stop watching the other local ranks; kill those that run on after `patience` seconds."""
    children, _children[:] = list(_children), []
    until = time.monotonic() + patience
    for rank, child in enumerate(children, 1):
        try:
            if child.wait(max(0.0, until - time.monotonic())):
                _dead_ranks.append((rank, child.returncode))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def lost_connection_error(error: BaseException) -> RankError | None:
    """Translate an error of a collective that lost its connection into one about the dead rank.

    Returns None for other errors.
    """
    if not isinstance(error, RuntimeError) or not any(word in str(error) for word in ("gloo", "NCCL", "Connection", "connection")):
        return None
    if _dead_ranks:
        return dead_rank_error(*_dead_ranks[0])
    detail = " ".join(str(error).split())[:160]
    return RankError(
        f"rank {ranks.rank()} lost its connection to the other ranks ({detail}); look for the cause in their output", exit_code=1
    )


def dead_rank_error(rank: int, code: int) -> RankError:
    """The error for a rank that died with this exit code, or minus this signal."""
    remedy = "resume the run from its last checkpoint with resume=auto"
    if code == -signal.SIGKILL:
        how = "was killed by SIGKILL, possibly because memory ran out (then lower data.batch_size)"
        return RankError(f"rank {rank} {how}; {remedy}", exit_code=5)
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}; its error is printed above"
    return RankError(f"rank {rank} {how}; {remedy}", exit_code=code if code > 0 else 1)


@contextlib.contextmanager
def one_job() -> Iterator[None]:
    """Clean up after a data parallel job: process group, other ranks, variables and threads.

    The next job of a multirun may have another number of ranks.
    """
    _dead_ranks.clear()
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
