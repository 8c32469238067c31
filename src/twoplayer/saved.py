"""A finished run, loaded back: its generator, for a notebook or for `src/sample.py`."""

import inspect
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file
from torch import Tensor

from twoplayer import pictures
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.game import Game
from twoplayer.training import build_game


class SavedGenerator:
    """The generator of a run. `generator(64)` gives 64 images (64, C, H, W) in [-1, 1]; `generator.game` is all of the game."""

    def __init__(self, game: Game, config: DictConfig) -> None:
        self.game, self.config = game.eval(), config

    def __call__(self, num: int, seed: int = 0, labels: Tensor | None = None) -> Tensor:
        """`num` samples, a function of `seed`; of these labels where the model is conditional, else of each class in turn.

        They come from the averaged weights if the run has some, else from the weights as they were trained.
        """
        labels = torch.arange(num) % self.game.num_classes if labels is None else labels
        chunks = zip(self.game.latents(num, "sample", seed).split(500), labels.split(500), strict=True)
        return torch.cat([self.game.sample(latents, part) for latents, part in chunks])


def load(run: str | Path) -> SavedGenerator:
    """The generator of a run folder. Raises ConfigurationError where this is not a run, DataError where its checkpoint is broken.

    Only classes of this package are built, and only tensors and plain values are read: opening a run executes nothing of it.
    """
    folder = Path(run)
    config_file, checkpoint_file = folder / "config.yaml", folder / "checkpoints" / "last.ckpt"
    if not config_file.exists():
        raise ConfigurationError(f"run={run}: there is no config.yaml in this folder, so it is not a run; name a folder in outputs/")
    if not checkpoint_file.exists():
        raise ConfigurationError(f"run={run}: there is no checkpoints/last.ckpt; the run has not been saved yet")
    config = OmegaConf.load(config_file)
    assert isinstance(config, DictConfig)
    for part in ("model", "loss", "trick", "optimizer"):
        refuse_foreign_targets(config[part])
    with torch.random.fork_rng(devices=[]):
        game = build_game(config, torch.device("cpu"))
    try:
        checkpoint: dict[str, Any] = torch.load(checkpoint_file, map_location="cpu", weights_only=True)
        game.load_state_dict(checkpoint["state_dict"])
    except Exception as error:
        raise DataError(f"{checkpoint_file} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    return SavedGenerator(game, config)


def write_samples(
    *,
    run: str,
    num: Annotated[int, Gt(0)],
    seed: Annotated[int, Ge(0)],
    columns: Annotated[int, Gt(0)],
    output: str | None,
    single_files: bool,
    safetensors: bool,
) -> None:
    """Samples of a run as one grid, and on request as single PNG files and as one .safetensors of uint8 (N, C, H, W)."""
    images = pictures.to_uint8(load(run)(num, seed))
    folder = Path(output or Path(run) / "generated")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"seed{seed}_{num}.png"
    pictures.grid(images, columns).save(path)
    print(path)
    if single_files:
        singles = folder / f"seed{seed}"
        singles.mkdir(exist_ok=True)
        for index, image in enumerate(images):
            pictures.picture(image).save(singles / f"{index:06}.png")
        print(singles)
    if safetensors:
        save_file({"images": images}, path.with_suffix(".safetensors"))
        print(path.with_suffix(".safetensors"))


def _is_ours(target: str) -> bool:
    """Whether this names a class or function of this package itself, and not something that one of its modules imports."""
    if not target.startswith("twoplayer."):
        return False
    found = get_object(target)
    return inspect.isclass(found) or inspect.isfunction(found) if str(getattr(found, "__module__", "")).startswith("twoplayer.") else False


def refuse_foreign_targets(config: Any) -> None:
    """A configuration that lies beside weights may build classes of this package, and nothing else."""
    if OmegaConf.is_dict(config):
        target = config.get("_target_")
        if target is not None and not _is_ours(str(target)):
            raise ConfigurationError(f"_target_={target}: a saved run may build classes of twoplayer alone")
    for value in config.values() if OmegaConf.is_dict(config) else config:
        if OmegaConf.is_config(value):
            refuse_foreign_targets(value)
