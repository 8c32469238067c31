"""Composing and checking a configuration from overrides, where Hydra itself does not."""

from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from twoplayer.config.check import check
from twoplayer.settings import compose_config, plain


def compose_run(*overrides: str) -> DictConfig:
    """The checked configuration of `python src/train.py <overrides>`, with references resolved.

    Raises ConfigurationError, or Hydra's own exceptions for choices that do not exist.
    """
    return checked(compose_config("train", *overrides), overrides)


def checked(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """A composed configuration after its check, with references resolved.

    Raises ConfigurationError.
    """
    settings = HydraConfig.instance()
    before, settings.cfg = settings.cfg, config  # the names of runs refer to it
    try:
        check(config, overrides)
        return OmegaConf.create(plain(config))
    finally:
        settings.cfg = before
