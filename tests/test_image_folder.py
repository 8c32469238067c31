"""Folders of images: what is read and what is refused, the cache, and batches from the disk."""

import functools
import io
import os
import pickle
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from helpers.games import CPU, Record, composed, play, state_sha256
from helpers.security import Hostile
from helpers.synthetic import Shapes
from twoplayer.commands.check_data import MOST_PRINTED, check_data
from twoplayer.data import cache, decoding
from twoplayer.data.base import Batches, Data, Split
from twoplayer.data.decoding import Fault, Picture, Target, decode
from twoplayer.data.image_folder import ImageFolder
from twoplayer.data.listing import File, held_out, num_classes, printable
from twoplayer.data.streaming import Streamed
from twoplayer.errors import ConfigurationError, DataError, ResourceError
from twoplayer.paths import CONF

BASE = ("batch_size", "image_size", "channels", "num_classes", "num_images", "classes", "num_labels", "classifier")
RGB, GRAY = Target(3, 8, 255), Target(1, 8, 255)


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of a user of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return tmp_path / "user" / "twoplayer" / "images"


def noise(seed: int, size: tuple[int, int] = (24, 20), channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze())


def encoded(image: Image.Image, kind: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def folder_of(root: Path, num: int, *classes: str) -> Path:
    """`num` images for each class, or `num` images alone."""
    for place in [root / name for name in classes] or [root]:
        place.mkdir(parents=True, exist_ok=True)
        for number in range(num):
            noise(1000 * zlib.crc32(place.name.encode()) + number).save(place / f"{number:03}.png")
    return root


def opened(root: Path, *overrides: str) -> ImageFolder:
    settings = dict(plain_settings(), root=str(root), num_classes=num_classes(str(root)))
    settings |= {name.removeprefix("data."): yaml.safe_load(value) for name, _, value in (word.partition("=") for word in overrides)}
    return ImageFolder(**settings)


@functools.cache
def plain_settings() -> dict[str, Any]:
    """The settings of conf/data/image_folder.yaml, for images of 8 x 8."""
    settings = yaml.safe_load((CONF / "data" / "image_folder.yaml").read_text()) | {"image_size": 8}
    return {name: value for name, value in settings.items() if name != "_target_"}


def picture(path: Path, target: Target = RGB) -> Picture:
    with decoding.quiet():
        found = decode(path, target)
    assert isinstance(found, Picture), found
    return found


def saved(path: Path, image: Image.Image, **settings: Any) -> Path:
    image.save(path, **settings)
    return path


def gray(image: Image.Image, path: Path, target: Target = GRAY, **settings: Any) -> set[int]:
    """The gray levels that an image of one colour is decoded to."""
    return set(picture(saved(path, image, **settings), target).pixels.flatten().tolist())


@pytest.mark.parametrize(
    ("mode", "colour", "level"),
    [
        ("L", 77, 77),
        ("RGB", (77, 77, 77), 77),
        ("1", 1, 255),
        ("LA", (0, 0), 255),  # what cannot be seen is background
        ("LA", (77, 255), 77),
        ("RGBA", (0, 0, 0, 0), 255),
        ("RGBA", (77, 77, 77, 255), 77),
        ("RGBA", (55, 55, 55, 51), 215),  # a fifth of 55 and four fifths of 255
        ("I;16", 77 * 257, 77),
        ("I;16", 65535, 255),
    ],
)
def test_every_mode_becomes_gray_and_rgb(mode: str, colour: Any, level: int, tmp_path: Path) -> None:
    for target in (GRAY, RGB):
        assert gray(Image.new(mode, (9, 9), colour), tmp_path / "x.png", target) == {level}


def test_modes_that_png_lacks(tmp_path: Path) -> None:
    assert gray(Image.new("CMYK", (9, 9), (0, 0, 0, 255)), tmp_path / "x.tif") == {0}
    assert gray(Image.new("CMYK", (9, 9), (0, 0, 0, 0)), tmp_path / "x.jpg", quality=95) == {255}
    palette = Image.new("P", (9, 9), 1)
    palette.putpalette([0, 0, 0, 77, 77, 77])
    assert gray(palette, tmp_path / "x.gif") == {77}
    assert gray(palette, tmp_path / "x.png", transparency=1) == {255}
    assert gray(Image.new("L", (9, 9), 77), tmp_path / "x.png", transparency=77) == {255}


def test_transparency_shows_the_background(tmp_path: Path) -> None:
    assert gray(Image.new("RGBA", (9, 9), (255, 0, 0, 0)), tmp_path / "x.png", Target(3, 8, 40)) == {40}


def test_the_centre_is_cropped_and_resized(tmp_path: Path) -> None:
    pixels = np.zeros((20, 60), np.uint8)
    pixels[:, 20:40] = 200
    assert gray(Image.fromarray(pixels), tmp_path / "x.png") == {200}
    assert gray(Image.fromarray(pixels.T.copy()), tmp_path / "x.png") == {200}
    same = noise(0, (8, 8))
    assert np.array_equal(picture(saved(tmp_path / "y.png", same)).pixels.transpose(1, 2, 0), np.asarray(same))


@pytest.mark.parametrize(("orientation", "turned"), [(1, 0), (6, 270), (3, 180), (8, 90)])
def test_a_photo_is_turned_upright(orientation: int, turned: int, tmp_path: Path) -> None:
    for target, image in ((RGB, noise(0, (8, 8))), (GRAY, noise(0, (8, 8), 1))):
        exif = Image.Exif()
        exif[0x0112] = orientation
        upright = np.asarray(image.rotate(turned)).reshape(8, 8, -1)
        assert np.array_equal(picture(saved(tmp_path / "x.png", image, exif=exif), target).pixels.transpose(1, 2, 0), upright)
    deep = Image.fromarray(np.asarray(noise(0, (8, 8), 1)).astype(np.uint16) * 257)
    found = picture(saved(tmp_path / "x.png", deep, exif=exif), GRAY).pixels[0]
    assert np.array_equal(found, np.asarray(noise(0, (8, 8), 1).rotate(turned)))


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.new("L", (9, 9), level) for level in (10, 200)]
    assert gray(frames[0], tmp_path / "x.gif", save_all=True, append_images=frames[1:]) == {10}


WHOLE = {
    "PNG": encoded(noise(0), "PNG"),
    "JPEG": encoded(noise(0), "JPEG"),
    "progressive JPEG": encoded(noise(0), "JPEG", progressive=True),
    "GIF": encoded(noise(0), "GIF"),
    "BMP": encoded(noise(0), "BMP"),
    "WebP": encoded(noise(0), "WEBP"),
    "TIFF": encoded(noise(0), "TIFF"),
    "compressed TIFF": encoded(noise(0), "TIFF", compression="tiff_lzw"),
    "PPM": encoded(noise(0), "PPM"),
}


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    start = b"\x89PNG\r\n\x1a\n" + len(header[4:]).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")
    return start + WHOLE["PNG"][33:]


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.png", WHOLE["PNG"])
    return buffer.getvalue()


def turned(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def arrays(**settings: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((8, 8)), **settings)
    return buffer.getvalue()


BROKEN: dict[str, tuple[bytes | Callable[[Path], object], str]] = {
    **{f"half of a {name}": (content[: len(content) // 2], "is truncated") for name, content in WHOLE.items()},
    **{f"the first bytes of a {name}": (content[:12], "is truncated|not an image") for name, content in WHOLE.items()},
    **{f"a {name} without its last 40 bytes": (content[:-40], "is truncated") for name, content in WHOLE.items()},
    "a PNG with one bit turned": (turned(WHOLE["PNG"], 400), "is corrupt|is truncated"),
    "a PNG with another header": (turned(WHOLE["PNG"], 18), "is corrupt|is truncated"),
    "a JPEG with random tables": (WHOLE["JPEG"][:20] + bytes(range(256)) + WHOLE["JPEG"][276:], "is corrupt|is truncated"),
    "a TIFF that points beyond its end": (b"II*\0" + (10**6).to_bytes(4, "little") + bytes(100), "is truncated"),
    "nothing": (b"", "is empty"),
    "zeros": (bytes(500), "holds only zeros"),
    "a text": (b"hello", "is not an image of a known format: it begins with 'hello'"),
    "a page of a web server": (b"<!DOCTYPE html>\n<p>404", "it begins with '<!DOCTYPE html"),
    "a pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "it begins with 'version https"),
    "a zip archive": (zipped(), "is not an image"),
    "an array": (arrays(), "is not an image"),
    "a small bomb": (bomb(10_000, 9_000), "claims to have 10,000 x 9,000 pixels; more than"),
    "a bomb": (bomb(100_000, 100_000), "claims to have more than .* pixels"),
    "32-bit integers": (encoded(Image.new("I", (9, 9), 5), "TIFF"), r"32 bits \(mode I\)"),
    "floats": (encoded(Image.new("F", (9, 9), 0.5), "TIFF"), r"32 bits \(mode F\)"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere.png"), "is a link to a file that does not exist"),
    "a link to itself": (lambda path: path.symlink_to(path), "cannot be read"),
    "a pipe": (os.mkfifo, "is not a regular file"),
}


def write(kind: str, path: Path) -> str:
    """A broken file of this kind, and what is said of it."""
    content, reason = BROKEN[kind]
    content(path) if callable(content) else path.write_bytes(content)
    return reason


def test_whole_files_are_read(tmp_path: Path) -> None:
    for content in WHOLE.values():
        (tmp_path / "x.png").write_bytes(content)
        picture(tmp_path / "x.png")


def test_every_broken_file_stops_training_and_is_named(tmp_path: Path, caches: Path, record: Record) -> None:
    root = folder_of(tmp_path / "mine", 6)
    tried = held = 0
    for kind in BROKEN:
        path = root / "holiday" / "broken one.png"
        path.parent.mkdir()
        reason = write(kind, path)
        before = sorted(root.rglob("*"))
        with pytest.raises(
            DataError, match=rf"holiday/broken one.png .*({reason}).*; delete or replace .*check_data.py '?data.root=.* lists"
        ) as error:
            opened(root).prepare_data()
        tried += 1
        held += "\n" not in str(error.value) and error.value.exit_code == 3 and sorted(root.rglob("*")) == before
        assert not [*caches.glob("*/*")], "nothing is kept of a folder with a fault"
        shutil.rmtree(path.parent)
    record("P9", "broken image files", tried, held)
    assert held == tried >= 40


HOSTILE: dict[str, Callable[[Path], bytes]] = {
    "a pickle": lambda canary: pickle.dumps(Hostile(canary)),
    "PostScript": lambda canary: f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(|touch {canary}) (w) file\n".encode(),
    "a shell script": lambda canary: f"#!/bin/sh\ntouch {canary}\n".encode(),
    "a picture with a pickle as its comment": lambda canary: encoded(noise(0), "JPEG", comment=pickle.dumps(Hostile(canary))),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_runs_nothing(kind: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "x.png").write_bytes(HOSTILE[kind](canary))
    found = decode(tmp_path / "x.png", RGB)
    assert isinstance(found, Picture if kind.startswith("a picture") else Fault)
    assert not canary.exists()


def test_class_folders_are_the_classes(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "mine", 12, "cat", "a dog", "zebra/young")
    (root / "notes").mkdir()
    (root / "notes" / "a.txt").write_text("no class")
    data = opened(root)
    assert composed("data=image_folder", f"data.root='{root}'").data.num_classes == data.num_classes == 3
    assert data.listing.classes == ["a dog", "cat", "zebra"]
    labels = torch.cat([split.labels for split in data.splits])
    assert labels.bincount().tolist() == [12, 12, 12]
    for split, names in zip(data.splits, named_splits(data), strict=True):
        assert split.labels.tolist() == [["a dog", "cat", "zebra"].index(name.split("/")[0]) for name in names]
    assert opened(root, "data.num_classes=1").splits.train.labels.unique().tolist() == [0]
    assert len(opened(root, "data.classes=[2]").listing.files) == 12
    noise(0).save(root / "stray.png")
    with pytest.raises(DataError, match=r"stray.png is in none of the class folders \(a dog, cat, zebra\); move it .*data.num_classes=1"):
        opened(root).prepare_data()
    assert len(opened(root, "data.num_classes=1").listing.files) == 37


def named_splits(data: ImageFolder) -> list[list[str]]:
    """The names in train, validation and test."""
    names = [file.name for file in data.listing.files]
    test, validation = held_out([file.place for file in data.listing.files])
    return [names[test + validation :], names[test : test + validation], names[:test]]


def test_splits_hold_the_images_of_their_names(tmp_path: Path) -> None:
    data = opened(folder_of(tmp_path / "mine", 40))
    for split, names in zip(data.splits, named_splits(data), strict=True):
        for image, name in zip(split.images, names, strict=True):
            assert np.array_equal(image.numpy(), picture(data.root / name).pixels)


def test_new_images_move_no_other(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "mine", 150)
    before = named_splits(opened(root))
    for number in range(150, 200):
        noise(number).save(root / f"{number}.png")
    after = named_splits(opened(root))
    for old, new in zip(before, after, strict=True):
        assert set(old) <= set(new)
    assert [len(names) for names in after] != [len(names) for names in before]


def test_a_tenth_is_held_out_twice() -> None:
    places = sorted(File(f"{number}.png", 0, 0, 0).place for number in range(20_000))
    test, validation = held_out(places)
    assert 1_850 < test < 2_150
    assert 1_850 < validation < 2_150
    assert max(places[:test]) < 0.1 <= places[test]


@pytest.mark.parametrize("num", range(3, 12))
def test_no_split_is_empty(num: int) -> None:
    for places in ([0.01] * num, [0.15] * num, [0.9] * num, [index / num for index in range(num)]):
        test, validation = held_out(places)
        assert test > 0
        assert validation > 0
        assert num - test - validation > 0


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, r"data.root=.*mine: this folder does not exist; name the folder"),
        ({}, r"there are no images here \(.avif, .*.webp\); name"),
        ({"a.txt": b"x", "b.txt": b""}, r"there are no images here .*; it holds 2 other files, such as a.txt; name"),
        ({"a.png": WHOLE["PNG"], "b.png": WHOLE["GIF"]}, r"3 images are the least, one for each split, and there are 2; add some"),
    ],
)
def test_a_folder_without_enough_images_is_refused(files: dict[str, bytes] | None, message: str, tmp_path: Path) -> None:
    root = tmp_path / "mine"
    for name, content in (files or {}).items():
        root.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    if files == {}:
        root.mkdir()
    with pytest.raises(DataError, match=message):
        opened(root).prepare_data()


def test_classes_that_are_not_there_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / "flat").mkdir(exist_ok=True)
        (tmp_path / "flat" / f"{name}.png").write_bytes(WHOLE["PNG"])
    with pytest.raises(
        ConfigurationError, match=r"data\.num_classes=10: data\.root=.*flat has no sub-folders of classes; set data\.num_cl"
    ):
        opened(tmp_path / "flat", "data.num_classes=10").prepare_data()
    for name in ("a/1", "a/2", "b/3", "b/4"):
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / f"{name}.png").write_bytes(WHOLE["PNG"])
    with pytest.raises(ConfigurationError, match=r"data\.classes=\[2\]: there is no class 2; the classes are 0 to 1"):
        opened(tmp_path / "mine", "data.classes=[2]").prepare_data()


def test_an_archive_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.zip").write_bytes(zipped())
    with pytest.raises(DataError, match=r"is a file; unpack it, and name the folder of its images"):
        opened(tmp_path / "mine.zip").prepare_data()


def test_what_is_left_out_and_what_is_double_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = folder_of(tmp_path / "mine", 8)
    for name in ("notes.txt", "Thumbs.db", ".DS_Store", "._000.png", "new.heic"):
        (root / name).write_bytes(b"x")
    (root / ".git").mkdir()
    noise(0).save(root / ".git" / "x.png")
    shutil.copy(root / "003.png", root / "again.png")
    Image.open(root / "004.png").save(root / "again.bmp")
    data = opened(root)
    with caplog.at_level("WARNING"):
        data.prepare_data()
    assert [message for message in caplog.messages if "left out" in message] == ["left out: 6 files, not read, such as new.heic"]
    assert any("duplicates: 2 images" in message for message in caplog.messages)
    assert data.listing.left_out == [".DS_Store", "._000.png", ".git", "Thumbs.db", "new.heic", "notes.txt"]


def test_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "mine", 4)
    (root / "up").symlink_to(root)
    (root / "other").symlink_to(folder_of(tmp_path / "elsewhere", 3))
    assert len(opened(root).listing.files) == 7


def test_names_that_are_no_text(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "mine", 4)
    name = os.fsdecode(b"caf\xe9\n.png")
    (root / name).write_bytes(b"broken")
    with pytest.raises(DataError, match=r"caf\\udce9\\n.png is not an image") as error:
        opened(root).prepare_data()
    str(error.value).encode()
    assert printable("日本.png") == "日本.png"
    (root / name).write_bytes(WHOLE["PNG"])
    assert len(opened(root).listing.files) == sum(len(split.images) for split in opened(root).splits) == 5


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded from now on."""
    names: list[str] = []
    original = decoding.decode

    def counted(path: Path, target: Target) -> Picture | Fault:
        names.append(path.name)
        return original(path, target)

    monkeypatch.setattr("twoplayer.data.image_folder.decode", counted)
    return names


def test_files_are_decoded_once(tmp_path: Path, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, names = folder_of(tmp_path / "mine", 9), counting(monkeypatch)
    before = sorted(tmp_path.joinpath("mine").rglob("*"))
    first = opened(root)
    first.prepare_data()
    assert len(names) == 9
    for overrides in ([], ["data.in_memory_mib=0"], ["data.batch_size=3"]):
        again = opened(root, *overrides)
        assert all(
            torch.equal(*pair) for one, other in zip(first.splits, again.splits, strict=True) for pair in zip(one, other, strict=True)
        )
        assert again.sha256 == first.sha256
    assert len(names) == 9
    assert sorted(root.rglob("*")) == before
    assert len([path for path in caches.iterdir() if path.is_dir()]) == 1


def replace(root: Path) -> None:
    noise(77).save(root / "003.png")
    os.utime(root / "003.png", ns=(0, 123_456_789))


CHANGES: dict[str, Callable[[Path], object]] = {
    "another time": lambda root: os.utime(root / "003.png", ns=(0, 1)),
    "another content": replace,
    "another name": lambda root: (root / "003.png").rename(root / "x.png"),
    "one more": lambda root: noise(99).save(root / "x.png"),
    "one less": lambda root: (root / "003.png").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_folder_is_decoded_again(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, names = folder_of(tmp_path / "mine", 6), counting(monkeypatch)
    sha256 = opened(root).sha256
    CHANGES[change](root)
    assert (opened(root).sha256 == sha256) == (change == "another time")
    assert len(names) == 6 + {"one more": 7, "one less": 5}.get(change, 6)


@pytest.mark.parametrize("setting", ["data.image_size=9", "data.channels=1", "data.background=0"])
def test_other_settings_have_their_own_cache(setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, names = folder_of(tmp_path / "mine", 6), counting(monkeypatch)
    opened(root).prepare_data()
    opened(root, setting).prepare_data()
    assert len(names) == 12


def test_equal_names_in_two_folders_are_two_caches(tmp_path: Path) -> None:
    """Archives often give all files the same time, and some formats the same size."""
    shas = []
    for place in (1, 2):
        root = tmp_path / str(place)
        root.mkdir()
        for number in range(4):
            noise(10 * place + number).save(root / f"{number}.bmp")
            os.utime(root / f"{number}.bmp", ns=(0, 0))
        shas.append(opened(root).sha256)
    assert shas[0] != shas[1]


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda home: os.truncate(home / cache.PIXELS, 100),
    "no pixels": lambda home: (home / cache.PIXELS).unlink(),
    "no record": lambda home: (home / cache.RECORD).unlink(),
    "an empty record": lambda home: (home / cache.RECORD).write_text(""),
    "another record": lambda home: (home / cache.RECORD).write_text("[1]"),
    "a bit": lambda home: (home / cache.PIXELS).write_bytes(turned((home / cache.PIXELS).read_bytes(), 50)),
    "killed": lambda home: home.rename(home.with_name(f"{home.name}.partial")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_built_again(damage: str, tmp_path: Path, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, names = folder_of(tmp_path / "mine", 6), counting(monkeypatch)
    first = opened(root)
    sha256 = first.sha256
    (home,) = (path for path in caches.iterdir() if path.is_dir())
    DAMAGES[damage](home)
    again = opened(root)
    assert again.sha256 == sha256
    assert torch.equal(again.splits.train.images, first.splits.train.images)
    assert len(names) == 12
    assert not [*caches.glob("*.partial")]


def test_a_full_disk_is_told_with_the_setting(tmp_path: Path, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        ResourceError, match=r"No space left on device; the decoded images need 0 MiB here: free some space, or set data.cache="
    ):
        opened(folder_of(tmp_path / "mine", 6)).prepare_data()
    assert not [path for path in caches.iterdir() if path.is_dir()]


def test_the_folder_of_the_cache_can_be_chosen(tmp_path: Path, caches: Path) -> None:
    root = folder_of(tmp_path / "mine", 6)
    opened(root, f"data.cache='{tmp_path / 'here'}'").prepare_data()
    assert [*(tmp_path / "here").iterdir()]
    assert not caches.exists()


@pytest.mark.parametrize("name", ["data.cache", "run", "sweep"])
def test_nothing_is_written_into_the_folder(name: str, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "mine", 6)
    with pytest.raises(ConfigurationError, match=rf"{name}=.*: this is in data.root, into which nothing is written; set {name}="):
        composed("data=image_folder", f"data.root='{root}'", f"{name}='{root / 'sub'}'")


@pytest.mark.parametrize("setting", ["data.channels=2", "data.background=256", "data.root=''", "data.num_labels=3"])
def test_wrong_settings_are_refused(setting: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=setting.partition("=")[0]):
        composed("data=image_folder", f"data.root='{folder_of(tmp_path / 'mine', 4)}'", setting)


@pytest.mark.parametrize(("rank", "world_size"), [(0, 1), (1, 2)])
def test_streamed_batches_are_equal_to_those_in_memory(rank: int, world_size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    split = Split(torch.randint(0, 256, (50, 3, 8, 8), generator=generator, dtype=torch.uint8), torch.arange(50))
    memory = iter(Batches(split, 16, 0, CPU, rank, world_size, 3))
    stream = iter(Streamed(Batches(split, 16, 0, CPU, rank, world_size, 3), CPU))
    for _ in range(20):  # six epochs
        one, other = next(memory), next(stream)
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
    assert torch.equal(Streamed(Batches(split, 16, 0, CPU), CPU).batch(7)[0], Batches(split, 16, 0, CPU).batch(7)[0])


def test_a_failure_while_reading_ahead_is_not_lost() -> None:
    class Failing(Batches):
        def drawn(self, iteration: int) -> tuple[torch.Tensor, ...]:
            if iteration == 5:
                raise DataError("the disk is gone")
            return super().drawn(iteration)

    batches = iter(Streamed(Failing(Split(torch.zeros(9, 1, 8, 8, dtype=torch.uint8), torch.zeros(9)), 4, 0, CPU), CPU))
    for _ in range(5):
        next(batches)
    with pytest.raises(DataError, match="the disk is gone"):
        next(batches)


RUN = ["data._target_=twoplayer.data.image_folder.ImageFolder", "+data.background=255", "+data.cache=null"]


def test_a_streamed_run_resumes_exactly_and_equals_one_in_memory(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "mine", 12, "one", "two")  # fewer than two batches
    settings = [*RUN, f"+data.root='{root}'", "data.num_classes=2", "data.channels=1"]
    for name, mib in (("memory", 64), ("disk", 0)):
        play(tmp_path / name, *settings, f"+data.in_memory_mib={mib}", "budget.images=160")
    for images, mib in ((64, 0), (112, 64), (160, 0)):
        play(tmp_path / "resumed", *settings, f"+data.in_memory_mib={mib}", f"budget.images={images}", "resume=auto")
    assert state_sha256(tmp_path / "memory") == state_sha256(tmp_path / "disk") == state_sha256(tmp_path / "resumed")


def checked(data: Data, tmp_path: Path) -> list[str]:
    """The lines of findings.txt."""
    check_data(data=data, num=16, columns=4, output=str(tmp_path / "report"))
    return (tmp_path / "report" / "findings.txt").read_text().splitlines()


def test_check_data_names_every_fault(tmp_path: Path, caches: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder_of(tmp_path / "mine", 6, "cat", "dog")
    (root / "notes.txt").write_text("x")
    for number, kind in enumerate(BROKEN):
        write(kind, root / "cat" / f"broken{number}.png")
    (root / "new.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=rf"^{len(BROKEN) + 1} faults; .*findings.txt names them all$"):
        checked(opened(root), tmp_path)
    report = (tmp_path / "report" / "findings.txt").read_text()
    for number, kind in enumerate(BROKEN):
        assert re.search(rf"^  cat/broken{number}.png .*({BROKEN[kind][1]})", report, re.MULTILINE), kind
    assert "  new.heic has a format that is not read; convert it to PNG or JPEG" in report
    assert "left out, since they are no images: 1\n  notes.txt" in report
    printed = capsys.readouterr().out
    assert f"and {len(BROKEN) + 1 - MOST_PRINTED} more" in printed
    assert (tmp_path / "report" / "contact_sheet.png").exists()
    assert not caches.exists()


def test_check_data_names_what_is_converted_odd_or_double(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "mine", 6, "cat", "dog")
    noise(1, (20, 20), 1).save(root / "cat" / "gray.png")
    Image.new("CMYK", (9, 9), (9, 200, 30, 0)).save(root / "cat" / "print.tif")
    Image.fromarray(np.arange(100, dtype=np.uint16).reshape(10, 10) * 600).save(root / "cat" / "deep.png")
    noise(2, (50, 10)).save(root / "cat" / "wide.png")
    noise(3, (5, 5)).save(root / "cat" / "small.png")
    shutil.copy(root / "dog" / "002.png", root / "cat" / "same.png")
    report = "\n".join(checked(opened(root), tmp_path))
    for line in (
        "classes: cat 12, dog 6",
        "  cat/gray.png is gray (L) and gets three equal channels",
        "  cat/deep.png has 16 bits, of which the upper 8 are kept",
        "  cat/print.tif is CMYK and becomes RGB",
        "  cat/print.tif has a single colour",
        "  cat/wide.png is 50 x 10, of which less than half remains in the square at its centre",
        "  cat/small.png is 5 x 5 and has to be enlarged to 8 x 8",
    ):
        assert line in report
    assert re.search(r"(cat/same|dog/002).png equals (cat/same|dog/002).png, which has another class", report)
    assert "equal after decoding: 1\n" in report
    assert "faults" not in report
    assert "  dog/001.png is in colour (RGB) and becomes gray" in checked(opened(root, "data.channels=1"), tmp_path)


def test_check_data_writes_nothing_into_the_folder(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "mine", 3)
    with pytest.raises(ConfigurationError, match=r"output=.*: this is in data.root, into which nothing is written; set output="):
        check_data(data=opened(root), num=1, columns=1, output=str(root / "report"))
    assert len([*root.iterdir()]) == 3


def test_check_data_of_other_data(tmp_path: Path) -> None:
    data = Shapes(**{name: value for name, value in plain_settings().items() if name in BASE} | {"num_classes": 4})
    data.splits.train.images[5] = data.splits.train.images[3]
    data.splits.test.images[9] = data.splits.train.images[7]
    report = checked(data, tmp_path)
    assert report[0].startswith("train: 192 of 3 x 8 x 8, uint8 from ")
    assert report[2].endswith("; 1 are also in the training split")
    assert report[-1] == "  image 5 of the train split equals image 3"
