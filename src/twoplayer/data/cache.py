"""A folder of decoded images that later runs read instead of the files."""

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from twoplayer.data.decoding import Picture, Target
from twoplayer.data.listing import Listing
from twoplayer.errors import DataError, ResourceError

log = logging.getLogger(__name__)

VERSION = 1
"""Changes whenever decoding gives other pixels for the same file."""

PIXELS = "images.uint8"
RECORD = "record.json"


class Cached(NamedTuple):
    """All decoded images of a folder, in the order of the listing."""

    images: np.ndarray
    """uint8 (N, channels, image_size, image_size), mapped or in memory."""
    sha256: str
    num_duplicates: int
    """Images whose pixels are equal to those of an earlier one."""

    @property
    def in_memory(self) -> bool:
        """Whether the images are in memory, not mapped."""
        return not isinstance(self.images, np.memmap)


def place(folder: str | None) -> Path:
    """The folder of all caches: the one of `data.cache`, or else the user's."""
    if folder is not None:
        return Path(folder)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "twoplayer" / "images"


def key(listing: Listing, target: Target) -> str:
    """A name that changes with the folder, any file's name, size or time, and the target."""
    digest = hashlib.sha256(repr((VERSION, os.path.realpath(listing.root), tuple(target))).encode(errors="surrogateescape"))
    for file in listing.files:
        digest.update(os.fsencode(f"{file.name}\0{file.size}\0{file.time}\0"))
    return digest.hexdigest()[:32]


def open_cache(folder: Path, listing: Listing, target: Target, read: Callable[[], Iterable[Picture]], in_memory: bool) -> Cached:
    """The decoded images of a listing; `read` decodes them if no intact cache has them yet.

    Two processes that need the same images build them once. Raises ResourceError if the cache
    cannot be written, and whatever `read` raises; then nothing is left behind.
    """
    name = key(listing, target)
    home = folder / name
    shape = (len(listing.files), target.channels, target.image_size, target.image_size)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{name}.lock"):
            cached = _open(home, shape, in_memory)
            if cached is None:
                _build(home, shape, read())
                cached = _open(home, shape, in_memory)
    except OSError as error:
        size = math.prod(shape) / 2**20
        raise ResourceError(
            f"{error.filename or folder}: {error.strerror}; the decoded images need {size:,.0f} MiB here: free some space, or set data.cache=<another folder>"
        ) from error
    if cached is None:
        raise DataError(f"{home}: the cache cannot be read back; set data.cache=<folder on another disk>")
    return cached


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """A lock between processes; the system frees it if its holder dies."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another process that decodes the same images ...")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _open(home: Path, shape: tuple[int, ...], in_memory: bool) -> Cached | None:
    """The cache, or None if it is missing or damaged.

    What is read to memory is compared with its checksum.
    """
    path = home / PIXELS
    try:
        record: dict[str, Any] = json.loads((home / RECORD).read_text())
        sha256, num_duplicates = str(record["sha256"]), int(record["num_duplicates"])
        if path.stat().st_size != math.prod(shape):
            return None
        if not in_memory:
            return Cached(np.memmap(path, np.uint8, "c", shape=shape), sha256, num_duplicates)
        images = np.fromfile(path, np.uint8).reshape(shape)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Cached(images, sha256, num_duplicates) if hashlib.sha256(images.data).hexdigest() == sha256 else None


def _build(home: Path, shape: tuple[int, ...], pictures: Iterable[Picture]) -> None:
    """Write a folder beside the final one and rename it."""
    partial = home.with_name(f"{home.name}.partial")  # of one process at a time, which holds the lock
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    digest, seen = hashlib.sha256(), set()
    try:
        # Plain writes report a full disk as an error; writes to a mapped file end the process.
        with (partial / PIXELS).open("wb") as file:
            for picture in pictures:
                file.write(picture.pixels.data)
                digest.update(picture.pixels.data)
                seen.add(picture.digest)
            file.flush()
            os.fsync(file.fileno())
        record = {"sha256": digest.hexdigest(), "num_duplicates": shape[0] - len(seen)}
        (partial / RECORD).write_text(json.dumps(record))
        shutil.rmtree(home, ignore_errors=True)
        partial.rename(home)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
