"""Reads arrays from .npz and .safetensors files. Nothing in such a file is executed."""

import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from twoplayer.errors import ConfigurationError, DataError

SUFFIXES = (".npz", ".safetensors")
Result = TypeVar("Result")


class Stored(NamedTuple):
    """An array in a file, not read yet. `kind` is "uint8", "float", "integer" or another type."""

    kind: str
    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def open_arrays(path: Path, setting: str = "data.file") -> dict[str, Stored]:
    """The arrays in a file by name; `setting` is the one that names the file.

    Raises DataError if the file is unreadable, or holds anything but arrays of numbers, and
    ConfigurationError if it is of another kind.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigurationError(f"{setting}={path}: must be a file that ends in {' or '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"{setting}={path}: there is no such file; name a {' or '.join(SUFFIXES)} file")
    return _guarded(path, lambda: _open_npz(path) if path.suffix == ".npz" else _open_safetensors(path))


def _guarded(path: Path, action: Callable[[], Result]) -> Result:
    """A broken file can make its parser raise almost anything: every error becomes one line."""
    try:
        return action()
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split()) or type(error).__name__}") from error


def _open_npz(path: Path) -> dict[str, Stored]:
    """Headers only. numpy would allocate whatever a header claims, so sizes are compared before."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name == info.filename:
                raise DataError(f"{path} holds {name}, which is not an array (.npy); leave it out")
            with archive.open(info) as file:
                version = np.lib.format.read_magic(file)
                read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
                if read_header is None:
                    raise DataError(f"{path}: the array {name} has the format version {version[0]}.{version[1]}, not 1.0 or 2.0")
                shape, _, dtype = read_header(file)
                begin = file.tell()
            if dtype.hasobject:
                raise DataError(f"{path}: the array {name} holds Python objects, which could run code and are not read; save numbers")
            expected = math.prod(shape) * dtype.itemsize
            if min(shape, default=0) < 0 or info.file_size - begin != expected:
                raise DataError(
                    f"{path}: the array {name} holds {info.file_size - begin:,} bytes, but its header {shape} requires {expected:,}: it is truncated or altered"
                )
            kind = "uint8" if dtype == np.uint8 else {"f": "float", "i": "integer", "u": "integer"}.get(dtype.kind, str(dtype))
            found[name] = Stored(kind, shape, _npz_reader(path, info.filename))
    return found


def _npz_reader(path: Path, member: str) -> Callable[[], Tensor]:
    def read() -> Tensor:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
        return _usable(torch.from_numpy(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))))

    return lambda: _guarded(path, read)


def _usable(tensor: Tensor) -> Tensor:
    """The tensor in a type that PyTorch can compute with."""
    return tensor.long() if tensor.dtype in (torch.uint16, torch.uint32, torch.uint64) else tensor


def _open_safetensors(path: Path) -> dict[str, Stored]:
    found = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 -- it is no mapping
            part = file.get_slice(name)
            dtype = str(part.get_dtype())
            kind = (
                "uint8"
                if dtype == "U8"
                else "float"
                if dtype in ("F64", "F32", "F16", "BF16")
                else "integer"
                if dtype[0] in "IU"
                else dtype
            )
            found[name] = Stored(kind, tuple(part.get_shape()), _safetensors_reader(path, name))
    return found


def _safetensors_reader(path: Path, name: str) -> Callable[[], Tensor]:
    def read() -> Tensor:
        with safe_open(path, framework="pt") as file:
            return _usable(file.get_tensor(name))

    return lambda: _guarded(path, read)
