"""Build the game that a configuration describes, untrained or from existing weights."""

from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from twoplayer import randomness
from twoplayer.errors import ConfigurationError
from twoplayer.game.engine import resolve_engine, resolve_precision
from twoplayer.game.game import Game
from twoplayer.settings import family, leaves, plain
from twoplayer.storage import checkpoints
from twoplayer.tricks.base import Tricks


def build_game(config: DictConfig, device: torch.device) -> Game:
    """The untrained game; it depends only on the configuration and its seed."""
    randomness.restart(config.seed, "weights")
    return Game(
        instantiate(config.model),
        instantiate(config.loss),
        Tricks({name: instantiate(node) for name, node in config.trick.items() if node}),
        {player: instantiate(config.optimizer[player]) for player in ("discriminator", "generator")},
        resolve_engine(config.engine),
        batch_size=config.data.batch_size,
        classes=config.data.classes or range(config.data.num_classes),
        seed=config.seed,
        precision=resolve_precision(config.precision, device),
    )


def build_from(config: DictConfig, device: torch.device) -> Game:
    """The game with the weights at `init_from`: a checkpoint file, or a run's newest checkpoint.

    Raises ConfigurationError if there is no checkpoint or it is of another model.
    """
    path = Path(config.init_from)
    found = checkpoints.find(path)
    if found is None:
        raise ConfigurationError(f"init_from={path}: there is no checkpoint; name a run folder or a checkpoint file")
    game = build_game(config, device)
    try:
        game.load_players(found.content["state_dict"])
    except RuntimeError as error:
        record = found.content.get("run")
        theirs = record.get("config") if isinstance(record, dict) else None
        raise ConfigurationError(
            f"init_from={path}: the weights there are of another model{_other_model(theirs, plain(config))}; choose that model"
        ) from error
    return game


def _other_model(theirs: Any, ours: dict[str, Any]) -> str:
    """Describe the difference: other models, other settings of networks, or other tricks."""
    if not isinstance(theirs, dict):
        return ""
    then, now = (dict(leaves({"model": config.get("model")})) for config in (theirs, ours))
    models = [family({"_target_": each.get("model._target_", ".unknown.")}) for each in (then, now)]
    if models[0] != models[1]:
        return f" (model={models[0]} there, model={models[1]} here)"
    different = [key for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)]
    if not different:  # a trick that adds to a network
        return f" (trick=[{','.join(theirs.get('trick') or ())}] there, trick=[{','.join(ours['trick'])}] here)"
    return f" ({'; '.join(f'{key}={then.get(key)} there, {now.get(key)} here' for key in different)})"
