"""The device and the number of ranks of a run, and checks of the machine."""

import torch
from omegaconf import DictConfig

from twoplayer.distributed import environment
from twoplayer.errors import ConfigurationError
from twoplayer.game.engine import ENGINES


def device_of(config: DictConfig) -> torch.device:
    """The type of the device that a run uses."""
    chosen = accelerator_of(config)
    return torch.device("cuda" if chosen == "gpu" else chosen)


def num_ranks(config: DictConfig) -> int:
    """The number of ranks of a run over all nodes."""
    ranks: int = config.trainer.devices * config.trainer.num_nodes
    return ranks


def refuse_hardware(config: DictConfig) -> None:
    """Raise ConfigurationError if this machine or launcher does not fit the configuration."""
    hardware, batch_size, kind = config.trainer, config.data.batch_size, accelerator_of(config)
    _refuse_launch(hardware)
    available = {"gpu": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(kind)
    if available == 0:
        raise ConfigurationError(f"trainer.accelerator={kind}: there is none on this machine; set trainer=cpu")
    if available is not None and hardware.devices > available:
        raise ConfigurationError(
            f"trainer.devices={hardware.devices}: this machine has {available} of kind {kind}; "
            f"set trainer.devices={available}, or trainer=cpu"
        )
    if kind == "mps" and (config.metric or config.referee):
        raise ConfigurationError(
            "trainer.accelerator=mps: it has no float64, which scores and the referee need; set metric=none referee=none, or trainer=cpu"
        )
    if batch_size % num_ranks(config):
        raise ConfigurationError(
            f"data.batch_size={batch_size}: the batch of all ranks together must be divisible by "
            f"the number of ranks, {num_ranks(config)}; set a multiple of {num_ranks(config)}"
        )
    missing = config.engine != "auto" and ENGINES[config.engine].missing(device_of(config))
    if missing:
        raise ConfigurationError(
            f"engine={config.engine}: there is no {missing.removeprefix('a ')} on this machine; install one, or set engine=eager"
        )


def accelerator_of(config: DictConfig) -> str:
    """Lightning's name of the accelerator; `auto` is CUDA if available, else the CPU.

    Apple's MPS has no float64, which scores need, so `auto` does not choose it.
    """
    chosen: str = config.trainer.accelerator
    return ("gpu" if torch.cuda.is_available() else "cpu") if chosen == "auto" else chosen


def _refuse_launch(hardware: DictConfig) -> None:
    wanted = hardware.devices * hardware.num_nodes
    settings = f"trainer.devices={hardware.devices} trainer.num_nodes={hardware.num_nodes}"
    if environment.manager() is not None and environment.world_size() != wanted:
        raise ConfigurationError(
            f"{settings}: {environment.manager()} started {environment.world_size()} processes, but these settings ask for {wanted}; "
            "make them the same (srun --ntasks-per-node, torchrun --nproc-per-node)"
        )
    if environment.manager() is None and hardware.num_nodes > 1:
        raise ConfigurationError(f"{settings}: on several nodes, start the processes with torchrun or srun; see docs/cluster.md")
