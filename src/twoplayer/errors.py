"""Errors that a user can fix, each with its exit code, and their messages."""

import difflib
import errno
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType


class TwoplayerError(Exception):
    """An error whose message is one line with the remedy.

    The entry scripts print that line without a traceback and exit with `exit_code`.
    """

    exit_code = 1


class ConfigurationError(TwoplayerError):
    """A setting is unknown, has the wrong type or range, or conflicts with another."""

    exit_code = 2


class DataError(TwoplayerError):
    """A data set or a checkpoint is missing, corrupt or not the expected one."""

    exit_code = 3


class NumericsError(TwoplayerError):
    """Training produced numbers that are not finite."""

    exit_code = 4


class ResourceError(TwoplayerError):
    """Disk space, memory or a permission is missing."""

    exit_code = 5


class RankError(TwoplayerError):
    """Another rank of this run died; the exit code depends on how."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def origin(error: BaseException) -> BaseException:
    """The first of our errors in the chain that led to this one; the error itself if there is none.

    OmegaConf and Hydra wrap what a resolver or a constructor raises.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, TwoplayerError):
        cause = cause.__cause__ or cause.__context__
    return error if cause is None else cause


def unknown(name: str, known: Iterable[str], kind: str = "setting", acronyms: Mapping[str, Sequence[str]] = MappingProxyType({})) -> str:
    """The message for a name that does not exist, with the closest known ones, or else all.

    `acronyms` maps acronyms of the literature to known names.
    """
    known = list(known)
    called = [acronym for acronym in acronyms if acronym.lower() == name.lower()]
    if called:
        near = [f"{choice} ({acronym})" for acronym in called for choice in acronyms[acronym]]
    else:
        near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    return f"{name} is not a {kind}; " + (f"did you mean {' or '.join(near)}?" if near else f"available: {', '.join(sorted(known))}")


def out_of_resources(error: BaseException) -> ResourceError | None:
    """Translate an error about disk space, permissions or memory; None for other errors.

    They come from the system, from PyTorch on the host or from CUDA.
    """
    message = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(f"{error.filename or 'the disk'}: {error.strerror}; free some space, or set run=<folder on another disk>")
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ResourceError(f"{error.filename or 'a file'}: {error.strerror}; change its permissions, or set run=<another folder>")
    remedy = "lower data.batch_size, or the widths of the model"
    if type(error).__name__ == "OutOfMemoryError":  # PyTorch's, by name: importing PyTorch takes seconds
        sizes = re.search(r"Tried to allocate ([\d.]+ \w+).*?of which ([\d.]+ \w+) is free", message)
        detail = f" ({sizes[1]} requested, {sizes[2]} free)" if sizes else ""
        return ResourceError(f"out of GPU memory{detail}: {remedy}")
    on_host = re.search(r"can't allocate memory: you tried to allocate (\d+) bytes", message)
    if on_host:
        return ResourceError(f"out of memory ({int(on_host[1]):,} bytes requested): {remedy}")
    if isinstance(error, MemoryError):
        return ResourceError(f"out of memory{f' ({message})' if message else ''}: {remedy}")
    return None
