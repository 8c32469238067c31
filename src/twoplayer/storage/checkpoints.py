"""Checkpoints that are written atomically and verified when they are read.

The name holds the images seen and the first 16 digits of the content's sha256, such as
`00012800-0a1b2c3d4e5f6071.ckpt`, so that corruption is detected. The best checkpoint by validation
score has a second name, `best-...`.
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
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from twoplayer.errors import DataError, ResourceError

log = logging.getLogger(__name__)

FOLDER = "checkpoints"
_NAME = re.compile(r"(?P<best>best-)?(?P<images_seen>\d{8,})-(?P<digest>[0-9a-f]{16})\.ckpt")
_BROKEN, _TEMPORARY = ".broken", ".part"


class SavedFile(NamedTuple):
    """A checkpoint file of a run, by its name."""

    images_seen: int
    best: bool
    path: Path


class Found(NamedTuple):
    """A checkpoint that was read and verified."""

    path: Path
    content: dict[str, Any]


class Save(NamedTuple):
    """The file that a save wrote, its size, and the seconds that training waited for it."""

    path: Path
    bytes: int
    seconds: float


class DurableCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoint I/O with atomic, verified saves.

    Lightning's own save writes its temporary file to TMPDIR, and a rename across file systems is a
    copy that can be interrupted. `found` was read already and is not read again.
    """

    def __init__(self, found: Found | None = None) -> None:
        self.last: Save | None = None
        self._found = found

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None) -> None:
        """Write the checkpoint `<images seen>.ckpt` as `<images seen>-<digest>.ckpt`, atomically.

        It is written to a temporary file in the same folder, flushed to disk, read back and then
        renamed. Raises ResourceError if there is no space or no permission, and leaves older
        checkpoints untouched.
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
                    f"{path.parent}: the checkpoint read back differs from the one written; the disk may be failing, set run=<folder on another disk>"
                )
            os.replace(temporary, target)
            _flush_folder(path.parent)
        except PermissionError as error:
            raise ResourceError(f"{path.parent} is not writable: change its permissions, or set run=<another folder>") from error
        except OSError as error:
            raise ResourceError(
                f"{path.parent}: {error.strerror or error}; a checkpoint takes {len(content):,} bytes; free some space, or set run=<folder on another disk>"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        self.last = Save(target, len(content), time.perf_counter() - started)

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        found, self._found = self._found, None  # Lightning modifies the dict it receives
        return found.content if found is not None and found.path == Path(path) else read(Path(path))


def read(path: Path, remedy: str = "") -> dict[str, Any]:
    """Read and verify a checkpoint: tensors and plain values only, so no code in it is executed.

    Raises DataError if the file is corrupt or is not a checkpoint of twoplayer; with the `remedy`
    if the file is in a run folder.
    """
    try:
        return _read(path)
    except DataError as error:
        if not remedy or path.resolve().parent.name != FOLDER:
            raise
        raise DataError(f"{error}; {remedy}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    name = _NAME.fullmatch(path.name)
    if name and not hashlib.sha256(content).hexdigest().startswith(name["digest"]):
        raise DataError(f"{path} is corrupt: its content does not match the sha256 in its name")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:  # torch.load does not verify the checksums
            if archive.testzip() is not None:
                raise DataError(f"{path} is corrupt: a checksum in the file does not match")
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if not (isinstance(checkpoint, dict) and isinstance(checkpoint.get("state_dict"), dict)):
            raise DataError(f"{path} is not a checkpoint of twoplayer")
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{path} cannot be read as a checkpoint of tensors and plain values: {' '.join(str(error).split())[:200]}"
        ) from error
    return checkpoint


def saved_files(run: Path) -> list[SavedFile]:
    """List the checkpoints in a run folder by their names, newest first.

    One that the run removes meanwhile is left out.
    """
    listed: list[tuple[SavedFile, int]] = []
    for path in (run / FOLDER).glob("*.ckpt"):
        name = _NAME.fullmatch(path.name)
        with suppress(FileNotFoundError):
            if name:
                listed.append((SavedFile(int(name["images_seen"]), bool(name["best"]), path), path.stat().st_mtime_ns))
    return [saved for saved, _ in sorted(listed, key=lambda item: (item[0].images_seen, not item[0].best, item[1]), reverse=True)]


def newest(run: Path) -> Found | None:
    """Read the newest intact checkpoint of a run; None if the run has no checkpoint.

    Corrupt ones are skipped with a warning. Raises DataError if all are corrupt: only the user can
    decide to start over.
    """
    candidates = saved_files(run)
    for saved in candidates:
        try:
            return Found(saved.path, read(saved.path))
        except DataError as error:
            log.warning("%s; trying an older checkpoint", error)
    if candidates:
        raise DataError(
            f"{run / FOLDER}: none of the {len(candidates)} checkpoints is intact; to start over, delete them or set run=<another folder>"
        )
    return None


def find(path: Path) -> Found | None:
    """The checkpoint in a file, or the newest intact one of a run folder; None if there is none.

    Raises DataError as `read` and `newest` do.
    """
    if not path.is_file():
        return newest(path)
    return Found(path, read(path, "name its run folder instead, which takes the newest intact checkpoint"))


def tidy(run: Path, resumed_from: int) -> None:
    """Clean up a run folder before the run resumes at `resumed_from` images seen.

    Deletes temporary files of killed saves and renames the newer checkpoints, which are corrupt.
    """
    for path in (run / FOLDER).glob(f".*{_TEMPORARY}"):
        path.unlink()
    for saved in saved_files(run):
        if saved.images_seen > resumed_from:
            saved.path.rename(saved.path.with_name(saved.path.name + _BROKEN))


def keep(run: Path, best: Path | None, num: int = 2) -> None:
    """Delete all checkpoints but the newest `num` and the best; `best` is a new best, if given."""
    if best is not None:
        second_name = best.with_name(f"best-{best.name}")
        temporary = second_name.with_name(f".{second_name.name}.{os.getpid()}{_TEMPORARY}")
        try:
            os.link(best, temporary)
        except OSError:  # the file system has no hard links
            shutil.copy2(best, temporary)
        os.replace(temporary, second_name)
        for saved in saved_files(run):
            if saved.best and saved.path != second_name:
                saved.path.unlink()
    regular = [saved for saved in saved_files(run) if not saved.best]
    last_of_moment = {saved.images_seen: saved.path for saved in reversed(regular)}
    kept = [last_of_moment[moment] for moment in sorted(last_of_moment, reverse=True)[:num]]
    for saved in regular:
        if saved.path not in kept:
            saved.path.unlink()
    _flush_folder(run / FOLDER)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush_folder(folder: Path) -> None:
    """Make a rename survive a power failure, where the system supports it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _no_room(folder: Path, needed: int, free: int) -> str:
    return f"{folder}: a checkpoint takes {needed:,} bytes and {free:,} are free; free some space, or set run=<folder on another disk>"
