"""What a run is computed on, and what this machine does not have."""

import torch
from omegaconf import DictConfig

from twoplayer.distributed import environment
from twoplayer.errors import ConfigurationError
from twoplayer.game.engine import ENGINES


def device_of(config: DictConfig) -> torch.device:
    """The kind of device that a run is computed on."""
    chosen = accelerator_of(config)
    return torch.device("cuda" if chosen == "gpu" else chosen)


def num_ranks(config: DictConfig) -> int:
    """The number of processes of a run, on all nodes together."""
    ranks: int = config.trainer.devices * config.trainer.num_nodes
    return ranks


def refuse_hardware(config: DictConfig) -> None:
    """Raise ConfigurationError where this machine lacks what the configuration asks for."""
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
    if kind == "mps" and config.metric:
        raise ConfigurationError("trainer.accelerator=mps: it has no float64, which scores need; set metric=none or trainer=cpu")
    if batch_size % num_ranks(config):
        raise ConfigurationError(
            f"data.batch_size={batch_size}: this is the batch of all {num_ranks(config)} ranks together "
            f"and does not divide by {num_ranks(config)}; set a multiple of it"
        )
    missing = config.engine != "auto" and ENGINES[config.engine].missing(device_of(config))
    if missing:
        raise ConfigurationError(
            f"engine={config.engine}: there is no {missing.removeprefix('a ')} on this machine; install one, or set engine=eager"
        )


def accelerator_of(config: DictConfig) -> str:
    """The accelerator in Lightning's words. `auto` is CUDA if there is any, else the CPU.

    Apple's MPS has no float64, which scores need, and is used on request alone.
    """
    chosen: str = config.trainer.accelerator
    return ("gpu" if torch.cuda.is_available() else "cpu") if chosen == "auto" else chosen


def _refuse_launch(hardware: DictConfig) -> None:
    wanted = hardware.devices * hardware.num_nodes
    settings = f"trainer.devices={hardware.devices} trainer.num_nodes={hardware.num_nodes}"
    if environment.manager() is not None and environment.world_size() != wanted:
        raise ConfigurationError(
            f"{settings}: {environment.manager()} has started {environment.world_size()} processes, and these settings ask for {wanted}; "
            "make them the same (srun --ntasks-per-node, torchrun --nproc-per-node)"
        )
    if environment.manager() is None and hardware.num_nodes > 1:
        raise ConfigurationError(f"{settings}: on several nodes the processes have to be started by torchrun or srun; see docs/resume.md")
