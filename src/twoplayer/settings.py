"""Composing configurations, and reading them as plain values and dotted names."""

from collections.abc import Iterator, Mapping
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from twoplayer.paths import CONF


def compose_config(script: str, *overrides: str) -> DictConfig:
    """Compose the configuration of a script with its `hydra` node, unchecked and unresolved."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(script, list(overrides), return_hydra_config=True)


def choices(group: str) -> list[str]:
    """The names of a configuration group's choices, sorted."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def plain(config: DictConfig) -> dict[str, Any]:
    """A configuration as plain values, with references resolved and without its `hydra` node."""
    parts = ((str(key), config[key]) for key in config if key != "hydra")
    return {key: OmegaConf.to_container(part, resolve=True) if OmegaConf.is_config(part) else part for key, part in parts}


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All leaf settings below a node, as pairs of dotted name and value."""
    for key, value in node.items():
        if isinstance(value, Mapping | DictConfig) and value:
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def written(value: Any) -> str:
    """A value in YAML spelling (null, true, false), for messages."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def family(node: Any) -> str:
    """The module name of a node's `_target_`, which is the name of its yaml."""
    return str(node["_target_"]).split(".")[-2]


def tags(config: Any) -> list[str]:
    """The names of data, model, loss and tricks of a run, in this order."""
    return [*(family(config[part]) for part in ("data", "model", "loss")), *map(str, config["trick"])]


def short(config: Mapping[str, Any]) -> dict[str, Any]:
    """A plain configuration as flat values for a table of runs.

    A part has its name: `model=dcgan`, `tricks=ema+r1`, `model.generator.width=16`. What does not
    describe the game, such as callbacks and folders, is left out.
    """
    left_out = ("callbacks", "referee", "logger", "run", "sweep", "resume", "name", "debug", "metric", "trick")
    flat: dict[str, Any] = {part: family(config[part]) for part in ("data", "model", "loss")}
    flat["tricks"] = "+".join(map(str, config["trick"])) or "none"
    shown = {key: value for key, value in config.items() if key not in left_out} | {"trick": config["trick"]}
    return flat | {name: value for name, value in leaves(shown) if not name.endswith("_target_") and value != {}}
