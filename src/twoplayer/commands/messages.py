"""Error messages: one line and an exit code for each error."""

import logging
import re
import sys
import traceback
from pathlib import Path

from hydra.errors import ConfigCompositionException, HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from twoplayer.distributed import environment
from twoplayer.errors import ConfigurationError, NumericsError, TwoplayerError, origin, out_of_resources, unknown
from twoplayer.paths import CONF
from twoplayer.settings import compose_config

log = logging.getLogger(__name__)

METHODS = ("model", "loss", "trick", "optimizer", "metric")
"""Groups whose choices the literature may call by an acronym."""


def print_error(error: BaseException, debug: bool = False) -> int:
    """Print an error as one line, once, and return its exit code.

    Errors that are not ours, and all errors with `debug`, are printed with a traceback.
    """
    reported = error
    if isinstance(error, InstantiationException | InterpolationResolutionError):
        error = origin(error)
    error = (not isinstance(error, TwoplayerError) and out_of_resources(error)) or error
    code = (
        error.exit_code
        if isinstance(error, TwoplayerError)
        else ConfigurationError.exit_code
        if isinstance(error, HydraException | OmegaConfBaseException)
        else 1
    )
    if not getattr(reported, "reported", False):
        reported.reported = True  # type: ignore[attr-defined]
        if (code == 1 and not isinstance(error, TwoplayerError)) or debug or "debug=true" in sys.argv:
            traceback.print_exception(reported)
        if environment.is_first():
            print(f"error: {explain(error)}", file=sys.stderr, flush=True)
            _note(f"error: {explain(error)}")
        elif code != NumericsError.exit_code and code < 128:  # all ranks have the same error, and rank 0 prints it
            print(f"error on another rank: {explain(error)}", file=sys.stderr, flush=True)
    return code


def _note(message: str) -> None:
    """Log the message to train.log only, since the terminal already shows it."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, message, (), None))


def explain(error: BaseException) -> str:
    """The message of an error as one line, with suggestions for unknown names."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"{group}={name}: " + unknown(
            name,
            error.options or (path.stem for path in (CONF / group).glob("*.yaml")),
            kind=f"choice of {group}",
            acronyms=_acronyms(group) if group in METHODS else {},
        )
    message = str(error)
    cause = f"{message}\n{error.__cause__ or ''}"
    if isinstance(error, ConfigCompositionException) and (key := re.search(r"full_key: (\S+)", cause)):
        return _unknown_setting(key[1])
    if isinstance(error, OverrideParseException):
        return f"{message.splitlines()[0]} (write an override as name=value, and quote it if it contains brackets or spaces)"
    return " ".join(message.split()) or type(error).__name__


def _acronyms(group: str) -> dict[str, list[str]]:
    """The acronyms in the first lines of a group's yamls, such as LSGAN, with their choices."""
    found: dict[str, list[str]] = {}
    for path in sorted((CONF / group).glob("*.yaml")):
        first = next((line for line in path.read_text().splitlines() if line.startswith("# ") and not line.startswith("# @package")), "")
        for acronym in dict.fromkeys(re.findall(r"[\w-]*[A-Z][\w-]*[A-Z][\w-]*", re.sub(r"\(.*?\)", "", first))):
            if acronym != "GAN":
                found.setdefault(acronym, []).append(path.stem)
    return found


def _unknown_setting(name: str) -> str:
    """The message for a setting that does not exist with the current choices."""
    words = [word for word in sys.argv[1:] if "," not in word and (CONF / re.split("[=@]", word)[0]).is_dir()]
    config = compose_config(Path(sys.argv[0]).stem, *words)
    group, _, choice = name.partition(".")
    choice = choice.partition(".")[0]
    if group in ("trick", "metric") and choice not in config[group] and (CONF / group / f"{choice}.yaml").exists():
        return f"{name}: this {group} is not chosen; choose it with '{group}=[{','.join([*map(str, config[group]), choice])}]'"
    parent, prefix = config, ""
    while "." in name.removeprefix(prefix) and isinstance(inner := parent.get(name.removeprefix(prefix).partition(".")[0]), DictConfig):
        prefix += name.removeprefix(prefix).partition(".")[0] + "."
        parent = inner
    return unknown(name, [prefix + str(key) for key in parent if not str(key).startswith("_")])
