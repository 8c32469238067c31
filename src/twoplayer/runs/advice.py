"""Advice of the referee as commands that a user can copy."""

from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from twoplayer import paths
from twoplayer.overrides import changed
from twoplayer.referee.base import Advice
from twoplayer.settings import family


def command(overrides: Sequence[str], change: str) -> str:
    """The command of a run with a change; `overrides` are those of the run's command."""
    return paths.command("train", *changed(overrides, change))


def change(config: Any, overrides: Sequence[str], advice: Advice) -> str | None:
    """The override that follows advice; None if the run does so already, or has no such place.

    A trick is added to the chosen ones, but for those that overrides of their own add.
    """
    if advice.trick is not None:
        added = {word.split(".")[1] for word in overrides if word.startswith("+trick.")}
        chosen = [str(name) for name in config["trick"] if name not in added]
        return None if advice.trick in chosen else f"trick=[{','.join([*chosen, advice.trick])}]"
    assert advice.setting is not None
    if advice.setting == "loss":
        return None if family(config["loss"]) == advice.value else f"loss={advice.value}"
    now = OmegaConf.select(OmegaConf.create(config), advice.setting)
    if now is None or str(now) == advice.value:
        return None
    return f"{advice.setting}={advice.value or f'{float(now) * (advice.times or 1):g}'}"
