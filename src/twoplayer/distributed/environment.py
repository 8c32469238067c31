"""What has started this process: a user, a rank of ours, torchrun or SLURM; told by the environment, before anything large is imported."""

import ctypes
import os
import signal
import sys

RANK_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED", "PL_SEED_WORKERS")
"""What a data parallel job leaves in the environment of the process that has started its ranks."""


def manager() -> str | None:
    """Who starts the ranks of this job, if not we: torchrun, or SLURM outside of an interactive shell."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun"
    return "SLURM" if "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive") else None


def is_first() -> bool:
    """Whether this is the process that speaks and writes for all."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK") if manager() == "SLURM" else ("RANK", "LOCAL_RANK")
    return next((os.environ[name] for name in names if name in os.environ), "0") == "0"


def world_size() -> int:
    """The number of processes that torchrun or SLURM has started together with this one; 1 where neither has."""
    return int(os.environ[{"torchrun": "WORLD_SIZE", "SLURM": "SLURM_NTASKS"}[name]]) if (name := manager()) else 1


def by_others() -> bool:
    """Whether torchrun or SLURM has started this process as one of several."""
    return world_size() > 1


PARENT = "TWOPLAYER_PARENT"
"""The process that has started this rank."""


def end_with_parent() -> None:
    """Have the system kill this rank when the process that has started it dies, however it dies (Linux).

    Without this a rank that waits for another one would stay for minutes. Only the first rank
    writes, so nothing is cut short. Must be called in the first moments of the process.
    """
    if sys.platform == "linux" and PARENT in os.environ:
        set_parent_death_signal = 1  # prctl.h
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != int(os.environ[PARENT]):  # it has died before that
            os._exit(128 + signal.SIGKILL)
