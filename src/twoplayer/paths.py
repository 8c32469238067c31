"""The conf folder; paths for messages and commands; folders named by settings."""

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twoplayer.errors import ConfigurationError, out_of_resources

CONF = Path(__file__).parents[2] / "conf"


def shown(path: Path) -> str:
    """A path for a message: relative if it is below the working directory."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute)


def command(script: str, *words: str) -> str:
    """The command of a script in src/, to copy; its words are quoted as the shell requires."""
    return shlex.join(["python", shown(CONF.parent / "src" / f"{script}.py"), *words])


def override(name: str, path: Path) -> str:
    """`name=path` as Hydra's grammar requires."""
    return f"{name}={quoted(path)}"


def quoted(path: Path) -> str:
    """A path as a value in Hydra's grammar."""
    value = shown(path)
    return value if re.fullmatch(r"[\w/.+-]+", value) else "'" + value.replace("\\", "\\\\").replace("'", r"\'") + "'"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place to write a file, which then takes the place of `path` at once.

    So a reader never sees a part of it, and an error or a kill leaves the former file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def make_folder(name: str, folder: Path) -> None:
    """Create the folder of the setting `name`, if it does not exist.

    Raises OSError if disk space or permissions are missing, ConfigurationError for other reasons.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if out_of_resources(error):
            raise
        raise ConfigurationError(f"{name}={folder}: cannot create this folder ({error.strerror}); choose another") from error
