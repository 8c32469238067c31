"""Checkpoints that are either whole or not there, and that show what has happened to them since.

A file is named by the images seen and by the beginning of the sha256 of its content, `00012800-0a1b2c3d4e5f6071.ckpt`, so that a bit that has
turned is noticed. The best one by validation score has a second name, `best-...`.
"""

import hashlib
import io
import logging
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from twoplayer.errors import DataError, ResourceError

log = logging.getLogger(__name__)

FOLDER = "checkpoints"
NUM_KEPT = 2
_NAME = re.compile(r"(?P<best>best-)?(?P<images_seen>\d{8,})-(?P<digest>[0-9a-f]{16})\.ckpt")
_BROKEN, _TEMPORARY = ".broken", ".part"


class Generation(NamedTuple):
    """One saved state of a run."""

    images_seen: int
    best: bool
    path: Path


class Found(NamedTuple):
    """A checkpoint that has been verified and read."""

    path: Path
    content: dict[str, Any]


class Save(NamedTuple):
    """What a save wrote, and how long the game waited for it."""

    path: Path
    bytes: int
    seconds: float


class DurableCheckpoints(TorchCheckpointIO):
    """Saves that are whole or not there.

    Lightning's own save writes its temporary file where TMPDIR says, and a rename across file
    systems is a copy that can be cut short. `found` has been read already and is not read again.
    """

    def __init__(self, found: Found | None = None) -> None:
        self.last: Save | None = None
        self._found = found

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None) -> None:
        """Write `<images seen>.ckpt` as `<images seen>-<digest>.ckpt`: beside, flushed to the disk, read back, then renamed in one step.

        Raises ResourceError where there is no room or no permission; what was there before is still there.
        """
        started, path = time.perf_counter(), Path(path)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        content = buffer.getbuffer()
        digest = hashlib.sha256(content).hexdigest()
        target = path.with_name(f"{path.stem}-{digest[:16]}.ckpt")
        temporary = path.with_name(f".{target.name}.{os.getpid()}{_TEMPORARY}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(path.parent).free
            if free < len(content):
                raise ResourceError(_no_room(path.parent, len(content), free))
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if _digest(temporary) != digest:
                raise ResourceError(
                    f"{path.parent} does not keep what is written to it (read back, it is something else): name another folder with run="
                )
            os.replace(temporary, target)
            _flush_folder(path.parent)
        except PermissionError as error:
            raise ResourceError(f"{path.parent} may not be written to: change its permissions, or name another folder with run=") from error
        except OSError as error:
            raise ResourceError(
                f"{path.parent}: {error.strerror or error}; a checkpoint takes {len(content):,} bytes; free some, or name another folder with run="
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        self.last = Save(target, len(content), time.perf_counter() - started)

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Tensors and plain values alone: opening a file runs no code."""
        found, self._found = self._found, None  # Lightning adds to what it is given
        return found.content if found is not None and found.path == Path(path) else read(Path(path))


def read(path: Path) -> dict[str, Any]:
    """A checkpoint. Raises DataError where the file is not whole or is something else; nothing in it is executed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    name = _NAME.fullmatch(path.name)
    if name and not hashlib.sha256(content).hexdigest().startswith(name["digest"]):
        raise DataError(f"{path} is broken: its content is not what was saved")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:  # torch.load does not look at the checksums
            if archive.testzip() is not None:
                raise DataError(f"{path} is broken: its checksums do not fit")
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if not (isinstance(checkpoint, dict) and isinstance(checkpoint.get("state_dict"), dict)):
            raise DataError(f"{path} is not a checkpoint of twoplayer")
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} is not a checkpoint that can be read safely: {' '.join(str(error).split())[:200]}") from error
    return checkpoint


def generations(run: Path) -> list[Generation]:
    """What is saved in a run folder, the newest first; nothing is opened."""
    found = ((path, _NAME.fullmatch(path.name)) for path in (run / FOLDER).glob("*.ckpt"))
    listed = [(Generation(int(name["images_seen"]), bool(name["best"]), path), path.stat().st_mtime_ns) for path, name in found if name]
    return [generation for generation, _ in sorted(listed, key=lambda item: (item[0].images_seen, not item[0].best, item[1]), reverse=True)]


def newest(run: Path) -> Found | None:
    """The newest checkpoint of a run that is whole, and its content; None where nothing has been saved. Broken ones are told of.

    Raises DataError where there are checkpoints and none is whole: to begin anew would then be the user's decision.
    """
    candidates = generations(run)
    for generation in candidates:
        try:
            return Found(generation.path, read(generation.path))
        except DataError as error:
            log.warning("%s; looking for an older one", error)
    if candidates:
        raise DataError(
            f"{run / FOLDER}: none of the {len(candidates)} checkpoints is whole; to begin anew, delete them or name another folder with run="
        )
    return None


def tidy(run: Path, resumed_from: int) -> None:
    """Before a run goes on: sweep what a killed save has left, and set aside files from beyond the point where it goes on, which were broken."""
    for path in (run / FOLDER).glob(f".*{_TEMPORARY}"):
        path.unlink()
    for generation in generations(run):
        if generation.images_seen > resumed_from:
            generation.path.rename(generation.path.with_name(generation.path.name + _BROKEN))


def keep(run: Path, best: Path | None) -> None:
    """Leave the newest two and the best; `best`, if given, becomes the best."""
    if best is not None:
        second_name = best.with_name(f"best-{best.name}")
        temporary = second_name.with_name(f".{second_name.name}.{os.getpid()}{_TEMPORARY}")
        try:
            os.link(best, temporary)
        except OSError:  # a file system without links
            shutil.copy2(best, temporary)
        os.replace(temporary, second_name)
        for generation in generations(run):
            if generation.best and generation.path != second_name:
                generation.path.unlink()
    regular = [generation for generation in generations(run) if not generation.best]
    last_of_moment = {generation.images_seen: generation.path for generation in reversed(regular)}
    kept = [last_of_moment[moment] for moment in sorted(last_of_moment, reverse=True)[:NUM_KEPT]]
    for generation in regular:
        if generation.path not in kept:
            generation.path.unlink()
    _flush_folder(run / FOLDER)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush_folder(folder: Path) -> None:
    """So that a rename outlives a power cut, where the system can do that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _no_room(folder: Path, needed: int, free: int) -> str:
    return f"{folder}: a checkpoint takes {needed:,} bytes and {free:,} are free; free some, or name a folder on another disk with run="
