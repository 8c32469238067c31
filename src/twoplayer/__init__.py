"""twoplayer: GAN experiments with numbers you can trust."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

__version__ = "0.1.0"

CONF = Path(__file__).parents[2] / "conf"


def load(run: str | Path) -> Any:
    """The generator of a run; see `twoplayer.saved.load`."""
    from twoplayer import saved

    return saved.load(run)


def _tricks(*, _root_: Any) -> str:
    """The chosen tricks, as the name of a run tells them."""
    return "+".join(_root_.trick) or "plain"


OmegaConf.register_new_resolver("tricks", _tricks, replace=True)
