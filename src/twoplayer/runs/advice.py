"""Advice of the referee as commands that a user can copy."""

import shlex
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from twoplayer.paths import CONF, shown
from twoplayer.referee.base import Advice
from twoplayer.settings import family

LEFT_OUT = ("run", "resume", "sweep", "name")


def command(config: Any, overrides: Sequence[str], advice: Advice) -> str | None:
    """The command of a run with the advice; None if the run does so already, or has no such place.

    `overrides` are those of the run's command. A trick is added to the chosen ones.
    """
    change = _change(config, advice)
    if change is None:
        return None
    key = change.partition("=")[0]
    kept = [word for word in overrides if word.lstrip("+~").partition("=")[0] not in (*LEFT_OUT, key)]
    return " ".join(["python", shown(CONF.parent / "src" / "train.py"), *map(shlex.quote, [*kept, change])])


def _change(config: Any, advice: Advice) -> str | None:
    if advice.trick is not None:
        chosen = list(map(str, config["trick"]))
        return None if advice.trick in chosen else f"trick=[{','.join([*chosen, advice.trick])}]"
    assert advice.setting is not None
    if advice.setting == "loss":
        return None if family(config["loss"]) == advice.value else f"loss={advice.value}"
    now = OmegaConf.select(OmegaConf.create(config), advice.setting)
    if now is None or str(now) == advice.value:
        return None
    return f"{advice.setting}={advice.value or f'{float(now) * (advice.times or 1):g}'}"
