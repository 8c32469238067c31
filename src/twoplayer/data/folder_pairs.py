"""Pairs of images of one's own: a folder of sources, and one of what is to be made of them."""

import hashlib
import logging
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import MinLen
from omegaconf import DictConfig
from torch import Tensor

from twoplayer.data.base import Batches, Split, Splits
from twoplayer.data.image_folder import ImageFolder
from twoplayer.data.listing import printable
from twoplayer.data.pairing import PairedBatches, gives_sources, refuse_num_labels
from twoplayer.errors import ConfigurationError, DataError

log = logging.getLogger(__name__)


class Sources(ImageFolder):
    """The folder of sources."""

    root_setting: ClassVar[str] = "data.source_root"


class FolderPairs(ImageFolder):
    """The images in `root` as targets, and those in `source_root` as their sources.

    If `paired`, a source has the name of its target, without the suffix. Otherwise the folders are
    two collections of any sizes. All images are held in memory.
    """

    def __init__(self, *, source_root: Annotated[str, MinLen(1)], paired: bool, **settings: Any) -> None:
        super().__init__(**settings)
        self.paired = paired
        self.source_folder = Sources(**settings | {"root": source_root})
        self._sources: Splits | None = None

    @classmethod
    def gives(cls, config: DictConfig) -> frozenset[str]:
        """See `Data`."""
        return super().gives(config) | gives_sources(config)

    @classmethod
    def refuse(cls, config: DictConfig) -> None:
        """Refuse a single folder for both, and what is refused for a folder of images."""
        super().refuse(config)
        Sources.refuse(config)
        refuse_num_labels(config)
        if Path(config.data.root).resolve() == Path(config.data.source_root).resolve():
            raise ConfigurationError(
                f"data.source_root={config.data.source_root}: these are the targets, too; name the folder of the sources"
            )

    def load(self) -> Splits:
        """Decode the files of both folders, or read them from the cache."""
        targets = super().load()
        if not (self.cached.in_memory and self.source_folder.cached.in_memory):
            size = max(cached.images.nbytes for cached in (self.cached, self.source_folder.cached))
            raise ConfigurationError(
                f"data.in_memory_mib={self.in_memory_mib}: pairs are held in memory; set data.in_memory_mib={-(-size // 2**20)} or more, "
                "or a smaller data.image_size"
            )
        self._sources = self._matched() if self.paired else self.source_folder.load()
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

    def _matched(self) -> Splits:
        """The source of each target, in the splits of the targets. Raises DataError."""
        places: dict[PurePosixPath, int] = {}
        names = [file.name for file in self.source_folder.listing.files]
        for place, name in enumerate(names):
            stem = PurePosixPath(name).with_suffix("")
            if stem in places:
                raise DataError(
                    f"{self.source_folder.root_setting}={self.source_folder.root}: {printable(names[places[stem]])} and {printable(name)} "
                    "are both the source of one target; remove one"
                )
            places[stem] = place
        stems = [PurePosixPath(file.name).with_suffix("") for file in self.listing.files]
        lonely = [file.name for file, stem in zip(self.listing.files, stems, strict=True) if stem not in places]
        if lonely:
            raise DataError(
                f"{self.source_folder.root_setting}={self.source_folder.root}: {len(lonely):,} of {len(stems):,} targets have no source of the same name, "
                f"such as {printable(min(lonely))}; add them, or set data.paired=false for collections that nobody has matched"
            )
        if unused := len(places) - len(set(stems)):
            log.warning("left out: %d sources without a target of the same name", unused)
        images = torch.from_numpy(self.source_folder.cached.images)[[places[stem] for stem in stems]]
        return self.divided(images, torch.zeros(len(stems), dtype=torch.int64))
