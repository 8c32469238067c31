"""twoplayer: GAN experiments with numbers you can trust."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from twoplayer.paths import CONF

__version__ = "0.3.0"

MOST_NAMED = 6
"""The largest number of tricks that the name of a run lists."""


def load(run: str | Path) -> Any:
    """Load the generator of a run; see `twoplayer.runs.saved.load`."""
    from twoplayer.runs import saved

    return saved.load(run)


def _tricks(*, _root_: Any) -> str:
    """The chosen tricks for the name of a run, limited since file names are limited in length."""
    names = list(map(str, _root_.trick))
    return ("+".join(names) or "plain") if len(names) <= MOST_NAMED else f"{'+'.join(names[:MOST_NAMED])}+{len(names) - MOST_NAMED}_more"


def _each(group: str) -> str:
    """All choices of a group as the values of a sweep, each in its own list."""
    return ",".join(f"[{path.stem}]" for path in sorted((CONF / group).glob("*.yaml")))


OmegaConf.register_new_resolver("each", _each, replace=True)
OmegaConf.register_new_resolver("tricks", _tricks, replace=True)
OmegaConf.register_new_resolver("times", lambda one, other: one * other, replace=True)
