"""What has started this process: a user, a rank of ours, torchrun or SLURM; told by the environment, before anything large is imported."""

import os

RANK_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED", "PL_SEED_WORKERS")
"""What a data parallel job leaves in the environment of the process that has started its ranks."""


def is_first() -> bool:
    """Whether this is the process that speaks and writes for all."""
    return next((os.environ[name] for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ), "0") == "0"


def world_size() -> int:
    """The number of processes that torchrun or SLURM has started together with this one; 1 where neither has."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    return int(os.environ.get("SLURM_NTASKS", "1")) if "SLURM_PROCID" in os.environ else 1


def by_others() -> bool:
    """Whether torchrun or SLURM has started this process as one of several."""
    return world_size() > 1
