"""What surrounds an entry script: checks before a run has a folder, and one line and an exit code for what goes wrong."""

import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any

from hydra import compose
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, InstantiationException, MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from twoplayer import CONF
from twoplayer.errors import ConfigurationError, TwoplayerError


def run(main: Callable[[], Any]) -> None:
    """Run a Hydra entry point; errors that one line explains end in that line and their exit code."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing, so that the printing is ours
    try:
        main()
    except Exception as error:
        sys.exit(report(error))


def job(config: DictConfig) -> None:
    """Train. An error ends a single run at once; in a multirun it is told when it happens, and Hydra goes on with the next job."""
    from twoplayer.training import train

    try:
        train(config)
    except Exception as error:
        code = report(error, config.debug)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        sys.exit(code)


def call(config: DictConfig) -> None:
    """Call what the configuration itself is the `_target_` and arguments of."""
    from hydra.utils import instantiate

    from twoplayer.configuration import check_call

    try:
        check_call(config)
        instantiate(config)
    except Exception as error:
        sys.exit(report(error))


def report(error: Exception, debug: bool = False) -> int:
    """Print what a user needs of an error, once, and return its exit code."""
    if isinstance(error, InstantiationException) and isinstance(error.__cause__, TwoplayerError):
        error = error.__cause__
    code = (
        error.exit_code
        if isinstance(error, TwoplayerError)
        else ConfigurationError.exit_code
        if isinstance(error, HydraException | OmegaConfBaseException)
        else 1
    )
    if not getattr(error, "reported", False):
        error.reported = True  # type: ignore[attr-defined]
        if code == 1 or debug or "debug=true" in sys.argv:
            traceback.print_exception(error)
        print(f"error: {explain(error)}", file=sys.stderr)
    return code


def explain(error: Exception) -> str:
    """One line about an error of ours or of Hydra's."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        from twoplayer.configuration import unknown

        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"{group}={name}: " + unknown(
            name, error.options or (path.stem for path in (CONF / group).glob("*.yaml")), kind=f"choice of {group}"
        )
    message = str(error)
    cause = f"{message}\n{error.__cause__ or ''}"
    if isinstance(error, ConfigCompositionException) and (key := re.search(r"full_key: (\S+)", cause)):
        from twoplayer.configuration import unknown

        return unknown(key[1], _known_settings(key[1]))
    if isinstance(error, OverrideParseException):
        return f"{message.splitlines()[0]} (an override is written name=value; quote it where it holds brackets or spaces)"
    return " ".join(message.split()) or type(error).__name__


def _known_settings(near: str) -> list[str]:
    """The names beside a mistyped one."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train")
    parent = OmegaConf.select(config, near.rpartition(".")[0]) if "." in near else config
    prefix = f"{near.rpartition('.')[0]}." if "." in near else ""
    return (
        [prefix + str(key) for key in parent if not str(key).startswith("_")]
        if isinstance(parent, DictConfig)
        else [str(key) for key in config]
    )


class Check(Callback):
    """Checks configuration and data before Hydra makes a folder; a multirun checks all of its jobs before the first."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """An ordinary exception here would only be a warning of Hydra's."""
        try:
            _check(config)
        except Exception as error:
            sys.exit(report(error, config.get("debug", False)))

    def on_multirun_start(self, config: DictConfig, config_name: str, **kwargs: Any) -> None:
        """The sweep's own expansion of its overrides, composed one by one."""
        try:
            overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
            batches = BasicSweeper.split_arguments(overrides, max_batch_size=None)
            _check(*(compose(config_name, overrides=job, return_hydra_config=True) for jobs in batches for job in jobs))
        except Exception as error:
            sys.exit(report(error, config.get("debug", False)))


def _check(*configs: DictConfig) -> None:
    """All configurations first, then the data, which may have to be fetched."""
    # Imported here: --help and a mistyped name do not wait for torch.
    from twoplayer.training import prepare_data, refuse

    for config in configs:
        HydraConfig.instance().set_config(config)  # which a name is made of
        refuse(config)
    for config in configs:
        prepare_data(config)
