"""The image files in a folder, with their classes, and the files that are left out."""

import hashlib
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from twoplayer.data.decoding import SUFFIXES
from twoplayer.errors import ConfigurationError, DataError

UNREAD_SUFFIXES = frozenset(
    {".heic", ".heif", ".svg", ".psd", ".eps", ".jp2", ".jxl", ".ico", ".tga", ".exr", ".raw", ".cr2", ".nef", ".dng"}
)
"""Images in formats that are not read."""


class File(NamedTuple):
    """An image file."""

    name: str
    """Its path in the folder, with `/` between the parts."""
    size: int
    time: int
    """Of its last change, in nanoseconds."""
    label: int

    @property
    def place(self) -> float:
        """A number in [0, 1) that follows from the name and decides split and order."""
        digest = hashlib.blake2b(os.fsencode(unicodedata.normalize("NFC", self.name)), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64


class Listing(NamedTuple):
    """What a folder holds."""

    root: Path
    classes: Sequence[str]
    """The names of the class folders in the order of their labels; empty without classes."""
    files: Sequence[File]
    """In the order of `File.place`, so that files of all classes are mixed."""
    left_out: Sequence[str]
    """The names of files that are not read, hidden ones among them."""

    @property
    def unread(self) -> set[str]:
        """Those of `left_out` that are images, but of a format that is not read."""
        return {name for name in self.left_out if Path(name).suffix.lower() in UNREAD_SUFFIXES}


def class_folders(root: Path) -> list[str]:
    """The sorted names of the folders in `root` that contain images; hidden ones do not count."""
    try:
        folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []  # `list_images` says what is wrong
    own = [name for name in folders if not root.resolve().is_relative_to((root / name).resolve())]  # no link upwards
    return [name for name in own if any(_is_image(path) for path in _walk(root / name))]


def num_classes(root: str) -> int:
    """The number of class folders, or 1 if there are fewer than two."""
    return max(1, len(class_folders(Path(root))))


def list_images(root: Path, num_classes: int, setting: str) -> Listing:
    """All images in `root`, which `setting` names, and below. With one class all have the label 0.

    Raises DataError if there is no image, or if it is not clear which class an image belongs to,
    and ConfigurationError if there are no classes.
    """
    if not root.is_dir():
        kind = (
            "this is a file; unpack it, and name the folder of its images"
            if root.is_file()
            else "this folder does not exist; name the folder of your images"
        )
        raise DataError(f"{setting}={root}: {kind}")
    classes = class_folders(root) if num_classes > 1 else []
    if num_classes > 1 and len(classes) < 2:
        raise ConfigurationError(f"data.num_classes={num_classes}: {setting}={root} has no sub-folders of classes; set data.num_classes=1")
    labels = {name: label for label, name in enumerate(classes)}
    files, left_out = [], []
    for path in _walk(root):
        name = path.relative_to(root).as_posix()
        if not _is_image(path):
            left_out.append(name)
            continue
        folder = name.partition("/")[0] if "/" in name else None
        if classes and folder not in labels:
            raise DataError(
                f"{printable(path)} is in none of the class folders ({', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''}); "
                "move it into one of them, or set data.num_classes=1 to use no classes"
            )
        try:
            status = path.stat()
            size, time = status.st_size, status.st_mtime_ns
        except OSError:
            size, time = -1, -1  # decoding says what is wrong
        files.append(File(name, size, time, labels[folder] if classes and folder is not None else 0))
    if not files:
        others = f"; it holds {len(left_out):,} other files, such as {printable(left_out[0])}" if left_out else ""
        raise DataError(
            f"{setting}={root}: there are no images here ({', '.join(sorted(SUFFIXES))}){others}; name the folder of your images"
        )
    return Listing(root, classes, sorted(files, key=lambda file: (file.place, file.name)), sorted(left_out))


def held_out(places: Sequence[float]) -> tuple[int, int]:
    """How many images are the test split and the validation split: the first in order of place.

    A tenth each, but at least one. Adding images moves others only if there are a few dozen.
    """
    num = len(places)
    test = min(max(1, sum(place < 0.1 for place in places)), num - 2)
    validation = min(max(1, sum(place < 0.2 for place in places) - test), num - test - 1)
    return test, validation


def printable(name: str | Path) -> str:
    """A name that can be printed, also if it is not valid Unicode or has line breaks."""
    text = str(name).encode(errors="backslashreplace").decode()
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _walk(root: Path) -> Iterator[Path]:
    """All files below a folder, through links, but each folder once.

    A hidden folder counts as one file.
    """
    seen = {os.path.realpath(root)}
    for folder, subfolders, names in os.walk(root, followlinks=True):
        visible = []
        for name in sorted(subfolders):
            if name.startswith("."):
                yield Path(folder, name)
            elif (real := os.path.realpath(os.path.join(folder, name))) not in seen:
                seen.add(real)
                visible.append(name)
        subfolders[:] = visible
        for name in sorted(names):
            yield Path(folder, name)
