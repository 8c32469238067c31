"""Data sets in memory: uint8 images on the training device, where batches are drawn."""

import functools
import hashlib
import itertools
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge, MinLen
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.nn.functional import interpolate

from twoplayer import randomness
from twoplayer.errors import ConfigurationError, DataError


class Split(NamedTuple):
    """Images (N, C, H, W) in uint8 and their labels (N) in int64."""

    images: Tensor
    labels: Tensor


class Splits(NamedTuple):
    """`train` for training, `validation` for curves and selection, `test` for the final score."""

    train: Split
    validation: Split
    test: Split


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 images as floats in [-1, 1], the range of tanh."""
    return images.float().div_(127.5).sub_(1.0)


class Batches:
    """Endless batches (images in [-1, 1], labels) on one device.

    Every epoch is a new permutation of all images. A batch that reaches the end of an epoch
    continues in the next. The order is a function of (seed, epoch) and holds for the global batch.
    Each rank takes its slice, so two ranks train on the same images as one.
    """

    def __init__(
        self, split: Split, batch_size: int, seed: int, device: torch.device, rank: int = 0, world_size: int = 1, first: int = 0
    ) -> None:
        self.images, self.labels = split.images.to(device), split.labels.to(device)
        self.global_batch_size, self.batch_size = batch_size, batch_size // world_size
        self.seed, self.device, self.rank, self.first = seed, device, rank, first
        self.order = functools.lru_cache(maxsize=2)(self._order)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (self.batch(iteration) for iteration in itertools.count(self.first))

    def batch(self, iteration: int) -> tuple[Tensor, Tensor]:
        """This rank's slice of the batch of `iteration`."""
        position = iteration * self.global_batch_size + self.rank * self.batch_size
        end = position + self.batch_size
        parts = []
        while position < end:
            epoch, offset = divmod(position, len(self.images))
            parts.append(self.order(epoch)[offset : offset + end - position])
            position += len(parts[-1])
        chosen = torch.cat(parts)
        return to_unit_range(self.images[chosen]), self.labels[chosen]

    def _order(self, epoch: int) -> Tensor:
        generator = randomness.generator("cpu", self.seed, "order", epoch)
        return torch.randperm(len(self.images), generator=generator).to(self.device)


class ImageData(LightningDataModule):
    """The base class of data sets of uint8 images. A subclass returns the three splits from `load`.

    `batch_size` is the global one, over all ranks. `classes` keeps only these classes in every
    split, and `num_images` only the first training images. `classifier` names the feature network
    in `twoplayer.metrics` that scores use; None if there is none for these images.
    """

    def __init__(
        self,
        *,
        batch_size: Annotated[int, Ge(1)],
        image_size: Annotated[int, Ge(8)],
        channels: Annotated[int, Ge(1)],
        num_classes: Annotated[int, Ge(1)],
        num_images: Annotated[int, Ge(1)] | None,
        classes: Annotated[list[Annotated[int, Ge(0)]], MinLen(1)] | None,
        classifier: Annotated[str, MinLen(1)] | None,
    ) -> None:
        super().__init__()
        self.batch_size, self.image_size, self.channels, self.num_classes = batch_size, image_size, channels, num_classes
        self.num_images, self.classes, self.classifier = num_images, classes, classifier
        self._splits: Splits | None = None

    def load(self) -> Splits:
        """All images and labels of the data set.

        Images are uint8 (N, channels, H, W) of any size; labels are int64 (N), from 0 to
        `num_classes` - 1. Raises DataError if they cannot be loaded.
        """
        raise NotImplementedError

    @property
    def splits(self) -> Splits:
        """The splits: loaded once, checked, cut to `classes` and `num_images`, resized.

        Raises DataError if `load` returns wrong types or shapes, and ConfigurationError if the
        images do not fit the settings.
        """
        if self._splits is None:
            train, validation, test = (self._prepare(name, split) for name, split in self.load()._asdict().items())
            if self.num_images is not None:
                if self.num_images > len(train.images):
                    raise ConfigurationError(
                        f"data.num_images={self.num_images}: there are only {len(train.images):,} training images; "
                        f"set data.num_images={len(train.images)} or less, or null for all"
                    )
                train = Split(train.images[: self.num_images], train.labels[: self.num_images])
            self._splits = Splits(train, validation, test)
        return self._splits

    @functools.cached_property
    def sha256(self) -> str:
        """The sha256 of the training images and labels, after selection and resizing."""
        digest = hashlib.sha256()
        for part in self.splits.train:
            digest.update(repr(tuple(part.shape)).encode())
            digest.update(part.contiguous().numpy().data)
        return digest.hexdigest()

    def prepare_data(self) -> None:
        """Load and check the data before the run begins."""
        _ = self.splits

    def batches(self, seed: int, device: torch.device, rank: int = 0, world_size: int = 1, first: int = 0) -> Batches:
        """The training batches from iteration `first` on."""
        return Batches(self.splits.train, self.batch_size, seed, device, rank, world_size, first)

    def train_dataloader(self) -> Batches:
        """The training batches from the game's present iteration on."""
        assert self.trainer is not None
        game: Any = self.trainer.lightning_module
        strategy = self.trainer.strategy
        return self.batches(game.seed, strategy.root_device, self.trainer.global_rank, self.trainer.world_size, game.clock.iteration)

    def _prepare(self, name: str, split: Split) -> Split:
        self._check(f"the {name} split of {type(self).__name__}", *split)
        images, labels = split
        if self.classes is not None:
            wrong = [number for number in self.classes if number >= self.num_classes]
            if wrong:
                raise ConfigurationError(
                    f"data.classes={self.classes}: there is no class {wrong[0]}; the classes are 0 to {self.num_classes - 1}"
                )
            kept = torch.isin(labels, torch.tensor(self.classes))
            images, labels = images[kept], labels[kept]
            if not len(labels):
                raise ConfigurationError(f"data.classes={self.classes}: the {name} split has no image of these classes; choose others")
        if images.shape[-2:] != (self.image_size, self.image_size):
            images = resize(images, self.image_size)
        return Split(images, labels)

    def _check(self, title: str, images: Tensor, labels: Tensor) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
            raise DataError(f"{title}: images are {_described(images)}; they have to be torch.uint8 (N, channels, height, width), N > 0")
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise DataError(f"{title}: labels are {_described(labels)}; they have to be torch.int64 ({len(images)}), one for each image")
        if images.shape[1] != self.channels:
            raise ConfigurationError(
                f"data.channels={self.channels}: {title} has images of {images.shape[1]} channels; set data.channels={images.shape[1]}"
            )
        if labels.min() < 0:
            raise DataError(f"{title}: a label is {int(labels.min())}; labels begin at 0")
        if labels.max() >= self.num_classes:
            raise ConfigurationError(
                f"data.num_classes={self.num_classes}: {title} has a label {int(labels.max())}; set data.num_classes={int(labels.max()) + 1} or more"
            )


def _described(tensor: Tensor) -> str:
    return f"{tensor.dtype} ({', '.join(map(str, tensor.shape))})"


def resize(images: Tensor, size: int) -> Tensor:
    """Resize uint8 images (N, C, H, W) to `size` x `size`, bilinearly with antialiasing."""
    parts = [interpolate(part.float(), (size, size), mode="bilinear", antialias=True) for part in images.split(1000)]
    return torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in parts])
