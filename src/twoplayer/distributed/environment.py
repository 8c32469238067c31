"""Which launcher started this process (the user, rank 0, torchrun or SLURM), from the environment.

It imports nothing large, so that a command can ask before PyTorch is loaded.
"""

import ctypes
import os
import signal
import sys

RANK_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED", "PL_SEED_WORKERS")
"""Variables that a data parallel job sets in the process that starts its ranks."""


def manager() -> str | None:
    """The launcher of this process: torchrun, SLURM (not in an interactive shell) or None."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun"
    return "SLURM" if "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive") else None


def is_first() -> bool:
    """Whether this is rank 0, which logs and writes files for all ranks."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK") if manager() == "SLURM" else ("RANK", "LOCAL_RANK")
    return next((os.environ[name] for name in names if name in os.environ), "0") == "0"


def world_size() -> int:
    """The number of processes that torchrun or SLURM started, this one included; otherwise 1."""
    return int(os.environ[{"torchrun": "WORLD_SIZE", "SLURM": "SLURM_NTASKS"}[name]]) if (name := manager()) else 1


def by_others() -> bool:
    """Whether torchrun or SLURM started this process as one of several."""
    return world_size() > 1


def cpus_per_process() -> int | None:
    """The CPUs that SLURM gives to each of its processes, if it was asked for a number."""
    return int(os.environ["SLURM_CPUS_PER_TASK"]) if manager() == "SLURM" and "SLURM_CPUS_PER_TASK" in os.environ else None


PARENT = "TWOPLAYER_PARENT"
"""The variable with the id of the process that started this rank."""


def end_with_parent() -> None:
    """Make Linux kill this rank when the process that started it dies, even by SIGKILL.

    Otherwise a rank that waits in a collective would stay for minutes. Only rank 0 writes files, so
    no file is left incomplete. Must be called first thing in the process.
    """
    if sys.platform == "linux" and PARENT in os.environ:
        set_parent_death_signal = 1  # prctl.h
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != int(os.environ[PARENT]):  # the parent died before the call
            os._exit(128 + signal.SIGKILL)
