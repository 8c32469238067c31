"""Decodes an image file to square uint8 pixels, or says what is wrong with it."""

import hashlib
import io
import re
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif"}
)
"""The names of image files; their content decides which format they have."""

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF")
"""The formats that are read. Pillow's others include EPS, which starts another program."""

MAX_PIXELS = 80_000_000
"""More are refused before they are decoded: a small file can claim to be huge."""

MAX_BYTES = 512 * 2**20

Half = Literal["left", "right"]

SIXTEEN_BITS = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})


class Target(NamedTuple):
    """What images are decoded to."""

    channels: int
    image_size: int
    background: int
    """The gray level behind transparent pixels, from 0 (black) to 255 (white)."""
    half: Half | None = None
    """The half of each file that is read, where a file holds two images side by side."""


class Picture(NamedTuple):
    """A decoded file."""

    pixels: np.ndarray
    """uint8 (channels, image_size, image_size)."""
    mode: str
    """Pillow's name of the mode in the file, such as RGB or L; `I;16` for all with 16 bits."""
    width: int
    height: int
    """The size of the image in the file; if a half of it is read, that of the half."""

    @property
    def digest(self) -> bytes:
        """Equal for equal pixels."""
        return hashlib.blake2b(self.pixels.data, digest_size=16).digest()


class Fault(NamedTuple):
    """Why a file cannot be used, as the end of a sentence that begins with its name."""

    reason: str


@contextmanager
def quiet() -> Iterator[None]:
    """A context without Pillow's warnings, for all threads; what they warn of is a Fault here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        yield


def decode(path: Path, target: Target) -> Picture | Fault:
    """Read a file or a half of it: upright, opaque, its centre cropped to a square and resized.

    Of an animation the first frame is read.
    """
    try:
        return _picture(_read(path), target)
    except _UnusableError as error:
        return Fault(str(error))


class _UnusableError(Exception):
    """The reason of a Fault."""


def _picture(content: bytes, target: Target) -> Picture:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise _UnusableError(f"claims to have {width:,} x {height:,} pixels; more than {MAX_PIXELS:,} are not decoded")
            if image.format == "PNG":
                with Image.open(io.BytesIO(content), formats=["PNG"]) as checked:
                    checked.verify()  # compares the checksums of all chunks, which decoding does not
            image.load()
            mode = "I;16" if image.mode in SIXTEEN_BITS or (image.mode == "I" and image.format in ("PNG", "PPM")) else image.mode
            if mode in ("I", "F"):
                raise _UnusableError(f"has pixels of 32 bits (mode {mode}), whose range is not known; convert it to 8 or 16 bits")
            plain = _opaque(_eight_bits(image, mode), target)
            upright = ImageOps.exif_transpose(plain)
            if target.half is not None:
                upright = _half(upright, target.half)
                width, height = upright.size
            pixels = np.asarray(_square(upright, target.image_size))
    except (_UnusableError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise _UnusableError(_unidentified(content)) from error
    except Image.DecompressionBombError as error:
        raise _UnusableError(f"claims to have more than {MAX_PIXELS:,} pixels; so many are not decoded") from error
    except Exception as error:  # decoders of broken files raise errors of many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _UnusableError("is truncated" if _is_cut(content, error) else f"is corrupt ({reason})") from error
    channels_first = pixels.reshape(target.image_size, target.image_size, target.channels).transpose(2, 0, 1).copy()
    return Picture(channels_first, mode, width, height)


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait forever
            raise _UnusableError("is not a regular file")
        if status.st_size > MAX_BYTES:
            raise _UnusableError(f"has {status.st_size:,} bytes, which is too large for an image")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise _UnusableError("is a link to a file that does not exist" if path.is_symlink() else "has disappeared") from error
    except OSError as error:
        raise _UnusableError(f"cannot be read ({error.strerror})") from error
    if not content:
        raise _UnusableError("is empty")
    return content


def _unidentified(content: bytes) -> str:
    known = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"BM": "BMP", b"RIFF": "WebP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
    kind = next((name for magic, name in known.items() if content.startswith(magic)), "AVIF" if content[4:12] == b"ftypavif" else None)
    if kind is not None:
        return f"is truncated or corrupt: it begins like a {kind} file, but its header cannot be read"
    if not content.strip(b"\0"):
        return "holds only zeros"
    begin = content.strip()[:24].decode("ascii", errors="backslashreplace")
    return f"is not an image of a known format: it begins with {begin!r}"


def _is_cut(content: bytes, error: Exception) -> bool:
    """Whether a decoder failed because the file ends too early."""
    if content.startswith(b"RIFF"):  # WebP names its length and its decoder gives no reason
        return int.from_bytes(content[4:8], "little") + 8 > len(content)
    return isinstance(error, EOFError | struct.error) or bool(
        re.search("truncated|end of file|not enough|chunk b''", str(error), re.IGNORECASE)
    )


def _eight_bits(image: Image.Image, mode: str) -> Image.Image:
    """16-bit gray as 8 bits; Pillow itself would clip it at 255."""
    if mode != "I;16":
        return image
    gray = np.asarray(image).astype(np.int64).clip(0, 65535)
    narrow = Image.fromarray(((gray + 128) // 257).astype(np.uint8))
    narrow.info.update({name: value for name, value in image.info.items() if name != "transparency"})
    narrow.getexif().update(image.getexif())
    return narrow


def _opaque(image: Image.Image, target: Target) -> Image.Image:
    """The image in the mode of the target, composed on the background if it has transparency."""
    mode = {1: "L", 3: "RGB"}[target.channels]
    exif = image.getexif()
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (target.background,) * 3 + (255,))
        image = Image.alpha_composite(ground, image)
    converted = image.convert(mode)
    converted.getexif().update(exif)
    return converted


def _half(image: Image.Image, half: Half) -> Image.Image:
    if image.width % 2:
        raise _UnusableError(f"is {image.width} x {image.height}, an odd width, which has no two halves")
    left = 0 if half == "left" else image.width // 2
    return image.crop((left, 0, left + image.width // 2, image.height))


def _square(image: Image.Image, size: int) -> Image.Image:
    """The largest square at the centre, resized bilinearly with antialiasing."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))  # resize(box=...) would also look outside of the box
    return square.resize((size, size), Image.Resampling.BILINEAR)
