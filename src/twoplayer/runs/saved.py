"""A finished run, loaded back: its generator, for a notebook or for `src/sample.py`."""

import inspect
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file
from torch import Tensor, nn

from twoplayer.config.check import check_parts
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.game.build import build_game
from twoplayer.game.game import Game
from twoplayer.storage import checkpoints
from twoplayer.storage.run_folder import read_config

EXPORTED = "generator.safetensors"


class SavedGenerator:
    """The generator of a run. `generator(64)` gives 64 images (64, C, H, W) in [-1, 1]; `generator.game` is all of the game."""

    def __init__(self, game: Game, config: DictConfig) -> None:
        self.game, self.config = game.eval(), config

    def __call__(self, num: int, seed: int = 0, labels: Tensor | None = None) -> Tensor:
        """`num` samples, a function of `seed`; of these labels where the model is conditional, else of each class in turn.

        They come from the averaged weights if the run has some, else from the weights as they were trained.
        """
        labels = torch.arange(num) % self.game.num_classes if labels is None else labels
        return self._images(self.game.latents(num, "sample", seed), labels)

    def interpolate(self, num: int, steps: int, seed: int = 0) -> Tensor:
        """`num` ways from one sample to another, each in `steps` images, (num * steps, C, H, W), along a great circle of latents: a straight
        line would lead through latents nearer to zero than any that the generator has seen (White, 2016, arXiv:1609.04468).
        """
        ends = self.game.latents(2 * num, "sample", seed)
        ways = great_circles(ends[:num], ends[num:], steps)
        return self._images(ways, torch.arange(num).repeat_interleave(steps) % self.game.num_classes)

    def _images(self, latents: Tensor, labels: Tensor) -> Tensor:
        return torch.cat([self.game.sample(*chunk) for chunk in zip(latents.split(500), labels.split(500), strict=True)])


def great_circles(begin: Tensor, end: Tensor, steps: int) -> Tensor:
    """From each row of `begin` (N, d) to that of `end` in equal angles, both included: (N * steps, d)."""
    share = torch.linspace(0, 1, steps)[None, :, None]
    angle = torch.nn.functional.cosine_similarity(begin, end).clamp(-1 + 1e-6, 1 - 1e-6).acos()[:, None, None]
    ways = (((1 - share) * angle).sin() * begin[:, None] + (share * angle).sin() * end[:, None]) / angle.sin()
    return ways.flatten(0, 1)


def load(run: str | Path) -> SavedGenerator:
    """The generator of a run folder (of its newest whole checkpoint), of one checkpoint file, or of a folder that `src/export.py` wrote.

    Only classes of this package are built, and only tensors and plain values are read: opening a run executes nothing of it.

    Raises ConfigurationError where there is nothing of that kind, DataError where what there is cannot be read.
    """
    path = Path(run)
    if (path / EXPORTED).is_file():
        return _load_exported(path)
    found = (path, checkpoints.read(path)) if path.is_file() else checkpoints.newest(path)
    if found is None:
        raise ConfigurationError(
            f"run={run}: there is no checkpoint in this folder; name a run in outputs/ that has been saved, or a checkpoint file"
        )
    file, checkpoint = found
    record = checkpoint.get("run")
    record = record if isinstance(record, dict) else {}
    config = _own_config(record.get("config"), file)
    game = _build(config, file, record.get("versions"))
    try:
        game.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise DataError(f"{file} is not of the game that it says it is: {' '.join(str(error).split())[:200]}") from error
    return SavedGenerator(game, config)


def _load_exported(folder: Path) -> SavedGenerator:
    config = _own_config(read_config(folder), folder / "config.yaml")
    game = _build(config, folder / "config.yaml", None)
    try:
        sampling_generator(game).load_state_dict(load_file(folder / EXPORTED))
    except Exception as error:
        raise DataError(f"{folder / EXPORTED} cannot be loaded: {' '.join(str(error).split())[:200]}") from error
    return SavedGenerator(game, config)


def sampling_generator(game: Game) -> nn.Module:
    """The generator that samples are drawn from: averaged where the game averages."""
    return game.tricks.sampler(game.model.generator)


def _build(config: DictConfig, where: Path, versions: Any) -> Game:
    """The game; raises ConfigurationError where this version of twoplayer does not know its settings."""
    try:
        check_parts(config)
    except ConfigurationError as error:
        theirs = versions.get("twoplayer", "unknown") if isinstance(versions, dict) else "unknown"
        raise ConfigurationError(
            f"{where} was made by another version of twoplayer ({theirs}; this is {version('twoplayer')}): {error}. "
            "Use the version that made it, or train again"
        ) from error
    with torch.random.fork_rng(devices=[]):
        return build_game(config, torch.device("cpu"))


def _own_config(content: Any, where: Path) -> DictConfig:
    """A configuration that came with weights: plain values, and classes of this package."""
    if not isinstance(content, dict) or any(
        not isinstance(content.get(part), dict) for part in ("model", "loss", "trick", "optimizer", "data")
    ):
        raise DataError(f"{where} does not say which game it is of")
    if any("${" in text for text in _texts(content)):
        raise ConfigurationError(f"{where}: a saved configuration holds values, and no references such as ${{...}}")
    config = OmegaConf.create(content)
    for part in ("model", "loss", "trick", "optimizer"):
        refuse_foreign_targets(config[part])
    return config


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield str(key)
            yield from _texts(value)
    elif isinstance(node, str):
        yield node


def home(run: str | Path) -> Path:
    """The folder of a run, or of the run that a checkpoint file is of."""
    path = Path(run).resolve()
    return path.parents[1] if path.is_file() and path.parent.name == checkpoints.FOLDER else path.parent if path.is_file() else Path(run)


MODULES = ("twoplayer.losses.", "twoplayer.models.", "twoplayer.tricks.")
OPTIMIZERS = "twoplayer.game.optimizers."


def _is_ours(target: str) -> bool:
    """Whether this names what a game is made of: a module of ours that computes, or one of our optimizers. Nothing that reads, writes or runs."""
    if not target.startswith((*MODULES, OPTIMIZERS)):
        return False
    try:
        found = get_object(target)
    except Exception:  # it is of another version, which `_build` tells
        return True
    if f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}" != target:  # a name that one of our modules imports
        return False
    return inspect.isfunction(found) if target.startswith(OPTIMIZERS) else inspect.isclass(found) and issubclass(found, nn.Module)


def refuse_foreign_targets(config: Any) -> None:
    """A configuration that lies beside weights may build the networks, losses, tricks and optimizers of this package, and nothing else."""
    if OmegaConf.is_dict(config):
        target = config.get("_target_")
        if target is not None and not _is_ours(str(target)):
            raise ConfigurationError(
                f"_target_={target}: a saved run may build the networks, losses, tricks and optimizers of twoplayer alone"
            )
    for value in config.values() if OmegaConf.is_dict(config) else config:
        if OmegaConf.is_config(value):
            refuse_foreign_targets(value)
