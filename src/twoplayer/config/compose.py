"""Composing a configuration from overrides without a command, for notebooks and tests."""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from twoplayer.config.check import check
from twoplayer.settings import compose_config, plain


def compose_run(*overrides: str) -> DictConfig:
    """The checked configuration of `python src/train.py <overrides>`, with references resolved.

    Raises ConfigurationError, or Hydra's own exceptions for choices that do not exist.
    """
    config = compose_config("train", *overrides)
    settings = HydraConfig.instance()
    before, settings.cfg = settings.cfg, config  # the names of runs refer to it
    try:
        check(config, overrides)
        return OmegaConf.create(plain(config))
    finally:
        settings.cfg = before
