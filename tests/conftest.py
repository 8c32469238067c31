"""What tests share: composed configurations, small games, and commands run as a user would run them."""

import os
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import Callback, Trainer

from twoplayer import CONF
from twoplayer.callbacks.stopwatch import Stopwatch
from twoplayer.configuration import Budget, check
from twoplayer.game import Game
from twoplayer.ranks import RANK_VARIABLES
from twoplayer.training import build_game

PROJECT = CONF.parent
SYNTHETIC = [
    "data._target_=synthetic.Shapes",
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
CPU = torch.device("cpu")

torch.set_num_threads(1)  # tiny networks gain nothing from more, and the processes of a test do not fight for cores


def choices(group: str) -> list[str]:
    """The names in a configuration group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def composed(*overrides: str) -> DictConfig:
    """The configuration that these overrides make, checked."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    check(config)
    return config


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


def weights(module: torch.nn.Module) -> list[torch.Tensor]:
    """A copy of all parameters."""
    return [parameter.detach().clone() for parameter in module.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    """Bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the ranks of another."""
    for name in RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def data_root() -> str:
    """The folder with the real data, fetched once."""
    return os.environ.get("TWOPLAYER_DATA", str(PROJECT / "data"))
