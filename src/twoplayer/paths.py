"""The folder of the configuration; paths as a person reads and types them; folders of settings."""

import re
import shlex
from pathlib import Path

from twoplayer.errors import ConfigurationError, out_of_resources

CONF = Path(__file__).parents[2] / "conf"


def shown(path: Path) -> str:
    """A path for a person to read: relative to the working directory where it lies below it."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute)


def setting(name: str, path: Path) -> str:
    """`name=path` for a person to type: quoted where Hydra's grammar or the shell wants it."""
    value = shown(path)
    if not re.fullmatch(r"[\w/.+-]+", value):
        value = "'" + value.replace("\\", "\\\\").replace("'", r"\'") + "'"
    return shlex.quote(f"{name}={value}")


def make_folder(name: str, folder: Path) -> None:
    """Make the folder that the setting `name` names, where there is none.

    Raises ConfigurationError where it cannot be made, OSError where disk or permissions are short.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if out_of_resources(error):
            raise
        raise ConfigurationError(f"{name}={folder}: this folder cannot be made ({error.strerror}); name another") from error
