"""What can go wrong through no fault of ours, each kind with its exit code."""

import difflib
import errno
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType


class TwoplayerError(Exception):
    """An error that one line explains. The entry scripts print that line, without a traceback, and exit with `exit_code`."""

    exit_code = 1


class ConfigurationError(TwoplayerError):
    """A setting that does not exist, has the wrong type or range, or cannot go with another."""

    exit_code = 2


class DataError(TwoplayerError):
    """A data set or a checkpoint that is missing, broken or not what it claims to be."""

    exit_code = 3


class NumericsError(TwoplayerError):
    """The game has produced numbers that are not finite."""

    exit_code = 4


class ResourceError(TwoplayerError):
    """Out of disk or memory."""

    exit_code = 5


class RankError(TwoplayerError):
    """Another rank of this run has died."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def unknown(name: str, known: Iterable[str], kind: str = "setting", acronyms: Mapping[str, Sequence[str]] = MappingProxyType({})) -> str:
    """One line about a name that does not exist, with the nearest that do. `acronyms` maps what the literature calls them to known names."""
    known = list(known)
    called = [acronym for acronym in acronyms if acronym.lower() == name.lower()]
    if called:
        near = [f"{choice} ({acronym})" for acronym in called for choice in acronyms[acronym]]
    else:
        near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    return f"{name} is not a {kind}; " + (f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(sorted(known))}")


def out_of_resources(error: BaseException) -> ResourceError | None:
    """What to do about an error that says that disk or memory is at its end, in the words of whoever ran out first; None for another error."""
    message = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(
            f"{error.filename or 'the disk'}: {error.strerror}; free some space, or name a folder on another disk with run="
        )
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ResourceError(f"{error.filename or 'a file'}: {error.strerror}; change its permissions, or name another folder with run=")
    remedy = "lower data.batch_size, or the widths of the model"
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported for this
        sizes = re.search(r"Tried to allocate ([\d.]+ \w+).*?of which ([\d.]+ \w+) is free", message)
        detail = f" ({sizes[1]} wanted, {sizes[2]} free)" if sizes else ""
        return ResourceError(f"the GPU's memory is full{detail}: {remedy}")
    on_host = re.search(r"can't allocate memory: you tried to allocate (\d+) bytes", message)
    if on_host:
        return ResourceError(f"the memory is full ({int(on_host[1]):,} bytes wanted): {remedy}")
    if isinstance(error, MemoryError):
        return ResourceError(f"the memory is full{f' ({message})' if message else ''}: {remedy}")
    return None
