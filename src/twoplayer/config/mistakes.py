"""Mistakes in overrides, which Hydra reports at length, in one line with a suggestion."""

import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig

from twoplayer.errors import unknown
from twoplayer.paths import CONF
from twoplayer.settings import choices, compose_config

METHODS = ("model", "loss", "trick", "optimizer", "metric")
"""Groups whose choices the literature may call by an acronym."""


def in_words(error: HydraException, script: str, overrides: Sequence[str]) -> str | None:
    """The message for a choice or a setting that does not exist, or that Hydra cannot read.

    `error` came of composing the configuration of `script` with `overrides`. None if it is another.
    """
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"{group}={name}: " + unknown(
            name,
            error.options or choices(group),
            kind=f"choice of {group}",
            acronyms=_acronyms(group) if group in METHODS else {},
        )
    cause = f"{error}\n{error.__cause__ or ''}"
    if isinstance(error, ConfigCompositionException) and (key := re.search(r"full_key: (\S+)", cause)):
        return _unknown_setting(key[1], script, overrides)
    if isinstance(error, OverrideParseException):
        return f"{str(error).splitlines()[0]} (write an override as name=value, and quote it if it contains brackets or spaces)"
    return None


def is_sweep(word: str) -> bool:
    """Whether an override has several values: `loss=hinge,minimax`, but not `trick=[ema,r1]`."""
    try:
        return OverridesParser.create().parse_override(word).is_sweep_override()
    except HydraException:
        return False  # Hydra reports it


def _acronyms(group: str) -> dict[str, list[str]]:
    """The acronyms in the first lines of a group's yamls, such as LSGAN, with their choices."""
    found: dict[str, list[str]] = {}
    for path in sorted((CONF / group).glob("*.yaml")):
        first = next((line for line in path.read_text().splitlines() if line.startswith("# ") and not line.startswith("# @package")), "")
        for acronym in dict.fromkeys(re.findall(r"[\w-]*[A-Z][\w-]*[A-Z][\w-]*", re.sub(r"\(.*?\)", "", first))):
            if acronym != "GAN":
                found.setdefault(acronym, []).append(path.stem)
    return found


def _unknown_setting(name: str, script: str, words: Sequence[str]) -> str:
    """The message for a setting that does not exist with the choices among these overrides."""
    config = compose_config(script, *(word for word in words if (CONF / re.split("[=@]", word)[0]).is_dir() and not is_sweep(word)))
    group, _, choice = name.partition(".")
    choice = choice.partition(".")[0]
    if group in ("trick", "metric") and choice not in config[group] and (CONF / group / f"{choice}.yaml").exists():
        return f"{name}: this {group} is not chosen; choose it with '{group}=[{','.join([*map(str, config[group]), choice])}]'"
    parent, prefix = config, ""
    while "." in name.removeprefix(prefix) and isinstance(inner := parent.get(name.removeprefix(prefix).partition(".")[0]), DictConfig):
        prefix += name.removeprefix(prefix).partition(".")[0] + "."
        parent = inner
    return unknown(name, [prefix + str(key) for key in parent if not str(key).startswith("_")])
