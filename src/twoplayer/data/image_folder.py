"""Images of one's own: the files in a folder, with or without a sub-folder for each class."""

import functools
import hashlib
import itertools
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Le, MinLen
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from twoplayer.data.base import Batches, ImageData, Split, Splits
from twoplayer.data.cache import Cached, open_cache, place
from twoplayer.data.decoding import Fault, Picture, Target, decode, quiet
from twoplayer.data.listing import File, Listing, held_out, list_images, num_classes, printable
from twoplayer.data.progress import followed
from twoplayer.data.streaming import Streamed
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.paths import command, override

log = logging.getLogger(__name__)

BLOCK = 512
"""How many files are given to the decoding threads at a time."""


class ImageFolder(ImageData):
    """All images in `root` and below, decoded once to a cache outside of it.

    A hash of its name decides whether an image is in the test split (a tenth), the validation split
    (a tenth) or the training split. So new images do not move others. Images that take at most
    `in_memory_mib` are held in memory, others are read from the cache during training.
    """

    fewest: ClassVar[int] = 3
    root_setting: ClassVar[str] = "data.root"
    """The name of the setting for messages."""

    def __init__(
        self,
        *,
        root: Annotated[str, MinLen(1)],
        channels: Literal[1, 3],
        background: Annotated[int, Ge(0), Le(255)],
        in_memory_mib: Annotated[int, Ge(0)],
        cache: Annotated[str, MinLen(1)] | None,
        **settings: Any,
    ) -> None:
        super().__init__(channels=channels, **settings)
        self.root, self.background, self.in_memory_mib, self.cache = Path(root), background, in_memory_mib, cache

    @classmethod
    def refuse(cls, config: DictConfig) -> None:
        """Refuse a cache in the folder of the images, into which nothing is written."""
        ImageData.refuse(config)
        root = Path(OmegaConf.select(config, cls.root_setting)).resolve()
        for name, folder in {"data.cache": place(config.data.cache), "run": Path(config.run), "sweep": Path(config.sweep)}.items():
            if folder.resolve().is_relative_to(root):
                raise ConfigurationError(
                    f"{name}={folder}: this is in {cls.root_setting}, into which nothing is written; set {name}=<another folder>"
                )

    @property
    def check_words(self) -> list[str]:
        """The settings with which `src/check_data.py` looks at the same files."""
        counted = self.num_classes == num_classes(str(self.root))
        return [override("data.root", self.root), *([] if counted else [f"data.num_classes={self.num_classes}"])]

    @property
    def target(self) -> Target:
        """What the images are decoded to."""
        return Target(self.channels, self.image_size, self.background)

    @functools.cached_property
    def listing(self) -> Listing:
        """The image files, those of `classes` alone if it is set. Raises DataError."""
        listing = list_images(self.root, self.num_classes, self.root_setting)
        if self.classes is None:
            return listing
        self.refuse_classes()
        return listing._replace(files=[file for file in listing.files if file.label in self.classes])

    @functools.cached_property
    def cached(self) -> Cached:
        """The decoded images in the order of the listing. Raises DataError at a broken file."""
        size = len(self.listing.files) * self.channels * self.image_size**2
        in_memory = size <= self.in_memory_mib * 2**20
        return open_cache(place(self.cache), self.listing, self.target, self._decode, in_memory)

    def load(self) -> Splits:
        """Decode all files, or read them from the cache."""
        files, left_out = self.listing.files, self.listing.left_out
        if len(files) < self.fewest:
            chosen = "" if self.classes is None else f" of the classes {self.classes}"
            raise DataError(
                f"{self.root_setting}={self.root}: {self.fewest} images are the least, one for each split, and there are {len(files)}{chosen}; add some"
            )
        cached = self.cached
        if left_out:
            example = min(self.listing.unread, default=left_out[0])
            log.warning("left out: %s, not read, such as %s", _number(len(left_out), "file"), printable(example))
        if cached.num_duplicates:
            log.warning("duplicates: %s equal to another; src/check_data.py names them", _number(cached.num_duplicates, "image"))
        return self.divided(torch.from_numpy(cached.images), torch.tensor([file.label for file in files]))

    def divided(self, images: Tensor, labels: Tensor) -> Splits:
        """Images and labels in the order of the listing as splits."""
        test, validation = held_out([file.place for file in self.listing.files])
        parts = slice(test + validation, None), slice(test, test + validation), slice(0, test)
        return Splits(*(Split(images[part], labels[part]) for part in parts))

    @functools.cached_property
    def sha256(self) -> str:
        """The sha256 of all decoded images and their labels; the cache holds that of the images."""
        labels = bytes(repr([file.label for file in self.listing.files]), "ascii")
        return hashlib.sha256(self.cached.sha256.encode() + labels).hexdigest()

    def batches(self, seed: int, device: torch.device, rank: int = 0, world_size: int = 1, first: int = 0) -> Batches:
        if self.cached.in_memory:
            return super().batches(seed, device, rank, world_size, first)
        return Streamed(super().batches(seed, torch.device("cpu"), rank, world_size, first), device)

    def examine(self) -> Iterator[tuple[File, Picture | Fault]]:
        """Each file with its picture or its fault, decoded by several threads, with progress."""
        files, blocks = self.listing.files, iter(self.listing.files)
        decode_file = functools.partial(_decode_file, self.root, self.target)
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1), "decode") as pool, quiet():
            results = itertools.chain.from_iterable(
                pool.map(decode_file, block) for block in iter(lambda: tuple(itertools.islice(blocks, BLOCK)), ())
            )
            yield from zip(files, followed(results, len(files), "reading images"), strict=True)

    def _decode(self) -> Iterator[Picture]:
        log.info("decoding %s once ...", _number(len(self.listing.files), "image"))
        for file, picture in self.examine():
            if isinstance(picture, Fault):
                raise DataError(
                    f"{printable(self.root / file.name)} {picture.reason}; delete or replace this file; "
                    f"{command('check_data', *self.check_words)} lists all such files"
                )
            yield picture


def _decode_file(root: Path, target: Target, file: File) -> Picture | Fault:
    return decode(root / file.name, target)


def _number(num: int, noun: str) -> str:
    return f"{num:,} {noun}{'' if num == 1 else 's'}"
