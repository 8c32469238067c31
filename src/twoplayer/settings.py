"""Configurations: composed, as plain values, and by the dotted names of their settings."""

from collections.abc import Iterator, Mapping
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from twoplayer.paths import CONF


def compose_config(script: str, *overrides: str) -> DictConfig:
    """The configuration of a script with Hydra's own part, unchecked and unresolved."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(script, list(overrides), return_hydra_config=True)


def plain(config: DictConfig) -> dict[str, Any]:
    """A configuration without Hydra's own part, with its references resolved, as plain values."""
    parts = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    content: dict[str, Any] = OmegaConf.to_container(parts, resolve=True)  # type: ignore[assignment]
    return content


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The settings below a node that have no settings below them, by their dotted names."""
    for key, value in node.items():
        if isinstance(value, Mapping | DictConfig) and value:
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def written(value: Any) -> str:
    """A value as it is written in a configuration."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def family(node: Any) -> str:
    """The module of the class that a node configures, which has the name of its yaml."""
    return str(node["_target_"]).split(".")[-2]


def tags(config: Any) -> list[str]:
    """Data, model, loss and tricks of a run."""
    return [*(family(config[part]) for part in ("data", "model", "loss")), *map(str, config["trick"])]
