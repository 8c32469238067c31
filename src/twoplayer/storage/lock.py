"""A lock that lets one process at a time use a run folder."""

import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from twoplayer.errors import ConfigurationError

FILE = ".lock"
PATIENCE_SECONDS = 0.3
"""Longer than `is_held` of another process holds the lock."""

_held: dict[Path, FileLock] = {}


def acquire(folder: Path, name: str = "run") -> None:
    """Lock the folder until `release`; the system frees the lock if this process dies.

    `name` is the setting that names the folder.

    Raises ConfigurationError if another process holds the lock.
    """
    folder = folder.resolve()
    if folder in _held:
        return
    lock = FileLock(folder / FILE, timeout=PATIENCE_SECONDS)
    try:
        lock.acquire(poll_interval=0.01)
    except Timeout:
        try:
            owner = (folder / f"{FILE}.owner").read_text()
        except FileNotFoundError:
            owner = "another process"
        raise ConfigurationError(
            f"{name}={folder}: {owner} is using this folder; wait until it ends, or set {name}=<another folder>"
        ) from None
    (folder / f"{FILE}.owner").write_text(f"process {os.getpid()} on {socket.gethostname()}")
    _held[folder] = lock


def is_held(folder: Path) -> bool:
    """Whether another process holds the lock of the folder."""
    if not (folder / FILE).exists() or folder.resolve() in _held:
        return False
    try:
        with FileLock(folder / FILE, timeout=0):
            return False
    except Timeout:
        return True


def release(folder: Path) -> None:
    """Unlock the folder, if this process holds its lock."""
    lock = _held.pop(folder.resolve(), None)
    if lock is not None:
        (folder / f"{FILE}.owner").unlink(missing_ok=True)
        lock.release()
