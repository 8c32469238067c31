"""The IDX format of MNIST: a four-byte magic number, the sizes, then the bytes."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from twoplayer.errors import DataError


def read_bytes(path: Path) -> bytes:
    """The content of a file, decompressed if it is a .gz. Raises DataError if unreadable."""
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def read_shape(path: Path) -> tuple[int, ...]:
    """The shape in the header of an IDX file, plain or as .gz, whose content is not read.

    Raises DataError if the file is unreadable or no IDX file.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            begin = file.read(4 + 4 * 255)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return _shape(begin, path)


def _shape(content: bytes, name: Path | str) -> tuple[int, ...]:
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != 0x08:
        raise DataError(f"{name} is not an IDX file of unsigned bytes (it begins with {content[:4].hex() or 'nothing'}, expected 0000 08)")
    return tuple(int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(content[3]))


def parse_idx(content: bytes, name: Path | str) -> Tensor:
    """The uint8 tensor in `content`, of the shape in its header. Errors refer to it as `name`.

    Raises DataError if the content is not IDX of unsigned bytes, or its length does not match its
    header.
    """
    shape = _shape(content, name)
    header = 4 + 4 * len(shape)
    expected = header + math.prod(shape)
    if len(content) < header or len(content) != expected:
        raise DataError(f"{name} holds {len(content):,} bytes, but its header {shape} requires {expected:,}: it is truncated or altered")
    try:
        return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())
    except ValueError as error:  # an empty array of huge sizes, or too many dimensions
        raise DataError(f"{name} has a header {shape} of an impossible array: {error}") from error
