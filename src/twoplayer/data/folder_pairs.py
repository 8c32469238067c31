"""Pairs of images of one's own: in two folders, or side by side in each file of one."""

import functools
import hashlib
import logging
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from annotated_types import MinLen
from omegaconf import DictConfig
from torch import Tensor

from twoplayer.data.base import Batches, Split, Splits
from twoplayer.data.decoding import Half, Target
from twoplayer.data.image_folder import ImageFolder
from twoplayer.data.listing import printable
from twoplayer.data.pairing import PairedBatches, gives_sources, refuse_num_labels
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.paths import override
from twoplayer.settings import written

log = logging.getLogger(__name__)


class Folder(ImageFolder):
    """One side of the pairs: a folder, or one half of each image in it."""

    root_setting: ClassVar[str] = "data.source_root"

    def __init__(self, pairs: "FolderPairs", *, half: Half | None, **settings: Any) -> None:
        super().__init__(**settings)
        self.half, self._check_words = half, pairs.check_words

    @property
    def check_words(self) -> list[str]:
        """Those of the pairs; see `ImageFolder`."""
        return self._check_words

    @property
    def target(self) -> Target:
        """See `ImageFolder`."""
        return super().target._replace(half=self.half)


class Matching(NamedTuple):
    """Which source belongs to which target, by their names without suffixes."""

    places: Sequence[int]
    """Of the source of each target in the order of the targets, those of `lonely` left out."""
    lonely: Sequence[str]
    """The targets without a source, sorted."""
    unused: Sequence[str]
    """The sources without a target, sorted."""
    doubled: Sequence[tuple[str, str]]
    """Sources of the same name and of different suffixes."""


class FolderPairs(ImageFolder):
    """The images in `root` as targets, and those in `source_root` as their sources.

    If `paired`, a source has the name of its target, without the suffix. Otherwise the folders are
    two collections of any sizes. With `source_half`, each image in `root` holds both, side by side.
    All images are held in memory.
    """

    def __init__(self, *, source_root: Annotated[str, MinLen(1)] | None, source_half: Half | None, paired: bool, **settings: Any) -> None:
        _refuse_places(source_root, source_half)
        super().__init__(**settings)
        self.paired, self.source_root, self.source_half = paired, source_root, source_half
        own = {} if source_root is None else {"root": source_root, "num_classes": 1, "classes": None}  # classes are those of targets
        self.source_folder = Folder(self, half=source_half, **settings | own)
        self._sources: Splits | None = None

    @classmethod
    def gives(cls, config: DictConfig) -> frozenset[str]:
        """See `Data`."""
        return super().gives(config) | gives_sources(config)

    @classmethod
    def refuse(cls, config: DictConfig) -> None:
        """Refuse anything but one place for sources, and what is refused for a folder of images."""
        super().refuse(config)
        refuse_num_labels(config)
        data = config.data
        _refuse_places(data.source_root, data.source_half)
        if data.source_root is None:
            return
        Folder.refuse(config)
        if Path(data.root).resolve() == Path(data.source_root).resolve():
            raise ConfigurationError(
                f"data.source_root={data.source_root}: these are the targets, too; name the folder of the sources, or set "
                "data.source_half=left or right and no data.source_root if each image holds a pair side by side"
            )

    @property
    def check_words(self) -> list[str]:
        """See `ImageFolder`."""
        source = (
            f"data.source_half={self.source_half}" if self.source_root is None else override("data.source_root", Path(self.source_root))
        )
        others = {"num_classes": (self.num_classes, 1), "paired": (self.paired, True)}  # with their defaults
        changed = [f"data.{name}={written(value)}" for name, (value, default) in others.items() if value != default]
        return ["data=folder_pairs", override("data.root", self.root), source, *changed]

    @property
    def target(self) -> Target:
        """See `ImageFolder`."""
        return super().target._replace(half=None if self.source_half is None else _OTHER[self.source_half])

    def load(self) -> Splits:
        """Decode the files of both folders, or read them from the cache."""
        targets = super().load()
        if not (self.cached.in_memory and self.source_folder.cached.in_memory):
            size = max(cached.images.nbytes for cached in (self.cached, self.source_folder.cached))
            raise ConfigurationError(
                f"data.in_memory_mib={self.in_memory_mib}: pairs are held in memory; set data.in_memory_mib={-(-size // 2**20)} or more, "
                "or a smaller data.image_size"
            )
        self._sources = self._matched() if self.paired or self.source_half else self.source_folder.load()
        return targets

    def source_images(self, split: Literal["train", "validation", "test"]) -> Tensor:
        """The sources (N, channels, image_size, image_size) of the images of a split, uint8.

        Without pairs they are those of the same split of the other folder, in turn.
        """
        num = len(getattr(self.splits, split).images)
        assert self._sources is not None
        sources: Tensor = getattr(self._sources, split).images
        return sources[:num] if len(sources) >= num else sources[torch.arange(num) % len(sources)]

    @property
    def sha256(self) -> str:  # type: ignore[override]
        """The sha256 of all decoded images of both folders."""
        return hashlib.sha256(f"{super().sha256} {self.source_folder.sha256} {self.paired}".encode()).hexdigest()

    def batches(self, seed: int, device: torch.device, rank: int = 0, world_size: int = 1, first: int = 0) -> Batches:
        """See `Data`."""
        train = self.splits.train
        assert self._sources is not None
        sources = Split(self.source_images("train"), train.labels) if self.paired else self._sources.train
        return PairedBatches(train, sources, self.batch_size, seed, device, rank, world_size, first, paired=self.paired)

    @functools.cached_property
    def matching(self) -> Matching:
        """Which source belongs to which target."""
        names = [file.name for file in self.source_folder.listing.files]
        if self.source_half is not None:
            return Matching(range(len(names)), (), (), ())
        places: dict[PurePosixPath, int] = {}
        doubled = []
        for place, name in enumerate(names):
            first = places.setdefault(_stem(name), place)
            if first != place:
                doubled.append((names[first], name))
        targets = {file.name: _stem(file.name) for file in self.listing.files}
        known = {*targets.values()}
        return Matching(
            [places[stem] for stem in targets.values() if stem in places],
            sorted(name for name, stem in targets.items() if stem not in places),
            sorted(names[place] for stem, place in places.items() if stem not in known),
            doubled,
        )

    def _matched(self) -> Splits:
        """The source of each target, in the splits of the targets. Raises DataError."""
        places, lonely, unused, doubled = self.matching
        where = f"{self.source_folder.root_setting}={self.source_folder.root}"
        if doubled:
            first, second = map(printable, doubled[0])
            raise DataError(f"{where}: {first} and {second} are both the source of one target; remove one")
        if lonely:
            raise DataError(
                f"{where}: {len(lonely):,} of {len(self.listing.files):,} targets have no source of the same name, "
                f"such as {printable(lonely[0])}; add them, or set data.paired=false for collections that nobody has matched"
            )
        if unused:
            log.warning("left out: %d sources without a target of the same name", len(unused))
        images = torch.from_numpy(self.source_folder.cached.images)[places]
        return self.divided(images, torch.zeros(len(images), dtype=torch.int64))


def _stem(name: str) -> PurePosixPath:
    """What a source and its target share; file systems differ in how they write accents."""
    return PurePosixPath(unicodedata.normalize("NFC", name)).with_suffix("")


_OTHER: Mapping[Half, Half] = {"left": "right", "right": "left"}


def _refuse_places(source_root: str | None, source_half: Half | None) -> None:
    """Refuse no place for the sources, and two."""
    if source_root is None and source_half is None:
        raise ConfigurationError(
            "data.source_root=null: the sources are missing; name their folder, or set data.source_half=left or right if each image "
            "in data.root holds a pair side by side"
        )
    if source_root is not None and source_half is not None:
        raise ConfigurationError(
            f"data.source_half={source_half} and data.source_root={source_root}: sources are in one place; choose one of them"
        )
