"""What tests share: composed configurations, small games, and commands run as a user would run them."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import Callback, Trainer

from twoplayer import CONF
from twoplayer.callbacks.stopwatch import Stopwatch
from twoplayer.config.compose import compose_run
from twoplayer.config.schema import Budget
from twoplayer.game.build import build_game
from twoplayer.game.game import Game
from twoplayer.runs.plan import plan_run
from twoplayer.runs.train import train
from twoplayer.storage import checkpoints

PROJECT = CONF.parent
SYNTHETIC = [
    "data._target_=helpers.synthetic.Shapes",
    "~data.root",
    "data.num_classes=4",
    "data.batch_size=16",
    "data.image_size=16",
    "metric=none",
    "logger=none",
    "precision=fp32",
]
SMALL = [*SYNTHETIC, "trick=[]", "model.generator.latent_size=8"]
WIDTHS = {
    "dcgan": ["model.generator.width=4", "model.discriminator.width=4"],
    "gan": ["model.generator.widths=[16,32]", "model.discriminator.widths=[32,16]"],
}
AUTOENCODER = ["model.discriminator.autoencoder=true", "model.discriminator.code_size=4"]
LOSS_SETTINGS = dict.fromkeys(("energy", "margin_adaptation", "boundary_equilibrium"), AUTOENCODER)  # what they cannot be without
CPU = torch.device("cpu")
SEED = 0  # of what the tests themselves draw: moments of kills, bits that turn

torch.set_num_threads(1)  # tiny networks gain nothing from more, and the processes of a test do not fight for cores


def choices(group: str) -> list[str]:
    """The names in a configuration group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


# Turns by cost; two that set what another trick sets; one of two that decide how D judges both sides; another weight of wgan_gp.
APART = ("adaptive_steps", "sgd_discriminator", "spectral_norm", "mixed_batches", "mmd_gp")
TOGETHER = [name for name in choices("trick") if name not in APART]


def composed(*overrides: str) -> DictConfig:
    """The configuration that these overrides make, checked."""
    return compose_run(*overrides)


def small(*overrides: str, model: str = "dcgan") -> DictConfig:
    """A tiny game on made-up images, without tricks unless some are named."""
    return composed(f"model={model}", *SMALL, *WIDTHS[model], *overrides)


def fit(config: DictConfig, folder: Path, iterations: int, *callbacks: Callback, game: Game | None = None) -> Game:
    """Play some iterations in this process."""
    game = game or build_game(config, CPU)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=-1,
        callbacks=[Stopwatch(Budget(images=iterations * config.data.batch_size, seconds=None)), *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(game, datamodule=instantiate(config.data))
    return game


def play(folder: Path, *overrides: str, model: str = "gan") -> dict[str, Any]:
    """A small run in this process, with all that surrounds it; returns its summary."""
    config = small(f"run='{folder}'", *overrides, model=model)
    return train(config, plan_run(config, folder))


def state_sha256(run: Path) -> str:
    """Of all that the newest checkpoint of a run holds of the game: players, optimizers, loss, tricks, counters, sums of scalars, scores."""
    _, checkpoint = checkpoints.newest(run) or pytest.fail(f"nothing is saved in {run}")
    game = {name: checkpoint[name] for name in ("state_dict", "optimizer_states", "per_rank")}
    callbacks = {
        name: state for name, state in checkpoint["callbacks"].items() if name not in ("Stopwatch", "Summary", "Pace")
    }  # wall-clock time, processes
    digest = hashlib.sha256()

    def add(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key in sorted(value, key=str):
                add(value[key], f"{path}.{key}")
        elif isinstance(value, list | tuple):
            for index, part in enumerate(value):
                add(part, f"{path}.{index}")
        elif isinstance(value, torch.Tensor):
            digest.update(f"{path} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.contiguous().numpy().tobytes())
        else:
            digest.update(f"{path} {value!r}".encode())

    add([game, callbacks, checkpoint["run"]["images_seen"]], "")
    grid = run / "samples" / f"{checkpoint['run']['images_seen']:08}.png"  # which shows what samples are drawn from, saved or not
    digest.update(grid.read_bytes() if grid.exists() else b"")
    return digest.hexdigest()


def weights(module: torch.nn.Module) -> list[torch.Tensor]:
    """A copy of all parameters."""
    return [parameter.detach().clone() for parameter in module.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    """Bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


Record = Callable[[str, str, int, int], None]
"""Of the fixture `record`: a promise, what was tried, how often, and how often it held."""
