"""Data sets in memory: images on the training device, where batches are drawn."""

import functools
import hashlib
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from annotated_types import Ge, MinLen
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.nn.functional import interpolate

from twoplayer import pictures, randomness
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.settings import family, leaves


class Split(NamedTuple):
    """Images (N, ...) in uint8 or float32, and their labels (N) in int64.

    Vectors or tensors of another shape can take the place of images.
    """

    images: Tensor
    labels: Tensor


class Splits(NamedTuple):
    """`train` for training, `validation` for curves and selection, `test` for the final score."""

    train: Split
    validation: Split
    test: Split


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 images as floats in [-1, 1], the range of tanh. Other types stay as they are."""
    return images.float().div_(127.5).sub_(1.0) if images.dtype == torch.uint8 else images


class Batches:
    """Endless batches (images in the range of training, labels) on one device.

    Every epoch is a new permutation of all images. A batch that reaches the end of an epoch
    continues in the next. The order is a function of (seed, epoch) and holds for the global batch.
    Each rank takes its slice, so two ranks train on the same images as one. `place` tells apart the
    orders of two sets of images that are drawn side by side.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        first: int = 0,
        place: str = "order",
    ) -> None:
        self.images, self.labels = split.images.to(device), split.labels.to(device)
        self.global_batch_size, self.batch_size = batch_size, batch_size // world_size
        self.seed, self.device, self.rank, self.first, self.place = seed, device, rank, first, place
        self.order = functools.lru_cache(maxsize=2)(self._order)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        return (self.batch(iteration) for iteration in itertools.count(self.first))

    def batch(self, iteration: int) -> tuple[Tensor, ...]:
        """This rank's slice of the batch of `iteration`."""
        return tuple(to_unit_range(part) for part in self.drawn(iteration))

    def drawn(self, iteration: int) -> tuple[Tensor, ...]:
        """The same as stored, before images are brought to the range of training."""
        position = iteration * self.global_batch_size + self.rank * self.batch_size
        end = position + self.batch_size
        parts = []
        while position < end:
            epoch, offset = divmod(position, len(self.images))
            parts.append(self.order(epoch)[offset : offset + end - position])
            position += len(parts[-1])
        chosen = torch.cat(parts)
        return self.images[chosen], self.labels[chosen]

    def _order(self, epoch: int) -> Tensor:
        generator = randomness.generator("cpu", self.seed, self.place, epoch)
        return torch.randperm(len(self.images), generator=generator).to(self.device)


class PartlyLabelled(Batches):
    """Batches (images, labels, labelled images, their labels) for semi-supervised training.

    The labelled images are drawn like all images, in an order of their own, so that both halves of
    a batch have the same size.
    """

    def __init__(
        self, split: Split, labelled: Split, batch_size: int, seed: int, device: torch.device, rank: int, world_size: int, first: int
    ) -> None:
        super().__init__(split, batch_size, seed, device, rank, world_size, first)
        self.labelled = Batches(labelled, batch_size, seed, device, rank, world_size, first, "labelled order")

    def drawn(self, iteration: int) -> tuple[Tensor, ...]:
        """This rank's slice of both batches of `iteration`."""
        return super().drawn(iteration) + self.labelled.drawn(iteration)


class Data(LightningDataModule):
    """The base class of data sets of any shape. A subclass returns the three splits from `load`.

    `batch_size` is the global one, over all ranks. `num_classes` of 1 means that there are no
    labels: all become 0. `classes` keeps only these classes in every split, and `num_images` only
    the first training images. `num_labels` gives the labels of so many training images to a
    semi-supervised model. `classifier` names the feature network that scores use, or its file; None
    if there is none for these data.
    """

    metric: ClassVar[str] = "c2st"
    """The default metric where there is no classifier."""
    bounded: ClassVar[bool] = True
    """The numbers of all examples are in [-1, 1]."""
    num_drawn: ClassVar[int | None] = None
    """The number of samples in a picture; None if pictures are grids, which have any number."""

    def __init__(
        self,
        *,
        batch_size: Annotated[int, Ge(1)],
        num_classes: Annotated[int, Ge(1)],
        num_images: Annotated[int, Ge(1)] | None,
        classes: Annotated[list[Annotated[int, Ge(0)]], MinLen(1)] | None,
        num_labels: Annotated[int, Ge(1)] | None,
        classifier: Annotated[str, MinLen(1)] | None,
    ) -> None:
        super().__init__()
        self.batch_size, self.num_classes, self.num_images, self.classes = batch_size, num_classes, num_images, classes
        self.num_labels, self.classifier = num_labels, classifier
        self._splits: Splits | None = None

    @classmethod
    def gives(cls, config: DictConfig) -> frozenset[str]:
        """What a batch holds that some models and tricks need: "labels", "images"."""
        return frozenset({"labels"} if config.data.num_classes > 1 else ())

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse a number of labels that is not the same for each class."""
        num_labels, num_classes = config.data.num_labels, len(set(config.data.classes or range(config.data.num_classes)))
        if num_labels is not None and config.data.num_classes == 1:
            raise ConfigurationError(
                f"data.num_labels={num_labels}: data.num_classes=1 means that there are no labels; set data.num_labels=null"
            )
        if num_labels is not None and num_labels % num_classes:
            raise ConfigurationError(
                f"data.num_labels={num_labels}: each of the {num_classes} classes gets the same number of labels; set a multiple of {num_classes}"
            )

    def load(self) -> Splits:
        """All images and labels of the data set.

        Images are uint8, or float32 in the range of training, and of the same shape; labels are
        int64 (N), from 0 to `num_classes` - 1. Raises DataError if they cannot be loaded.
        """
        raise NotImplementedError

    @property
    def splits(self) -> Splits:
        """The splits: loaded once, checked, cut to `classes` and `num_images`, prepared.

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

    def held_out(
        self, first: int, num: int, device: torch.device, split: Literal["validation", "test"] = "validation"
    ) -> tuple[Tensor, ...]:
        """`num` images of a split, their labels, and their sources if they have some.

        They begin with the image `first`, and are fewer at the end of the split. Images are in the
        range of training.
        """
        place, sources = slice(first, first + num), self.source_images(split)
        parts = [*getattr(self.splits, split), *([] if sources is None else [sources])]
        return tuple(to_unit_range(part[place].to(device)) for part in parts)

    def source_images(self, split: Literal["train", "validation", "test"]) -> Tensor | None:
        """The images (N, C, H, W) that those of a split are to be made from; None without pairs."""
        return None

    def shown(self, num: int, columns: int) -> Tensor:
        """At most `num` training images in the range of training, for a grid of so many columns.

        With as many columns as classes, each column shows one class, in the order of `classes`. A
        class without images leaves its column to another. Otherwise they are the first images.
        """
        images, labels = self.splits.train
        classes = self.classes or range(self.num_classes)
        if len(classes) == 1 or columns != len(classes):
            return to_unit_range(images[:num])
        present = labels.unique().tolist()
        members = {number: (labels == number).nonzero().flatten() for number in present}
        columns_of = [number if number in members else present[number % len(present)] for number in classes]
        chosen = [members[columns_of[place % columns]] for place in range(num)]
        return to_unit_range(images[torch.stack([found[place // columns % len(found)] for place, found in enumerate(chosen)])])

    def picture(self, samples: Tensor, columns: int, output: Callable[[Tensor], Tensor] | None) -> Image.Image:
        """Samples (N, ...) to look at, by default in a grid of so many columns.

        `output` gives D's output (N) for examples, where there is a D that has one.
        """
        return pictures.grid(pictures.as_images(samples), columns)

    def prepare_data(self) -> None:
        """Load and check the data before the run begins."""
        _ = self.splits
        if self.num_labels is not None:
            _ = self.labelled(seed=0)

    def labelled(self, seed: int) -> Split:
        """The `num_labels` training images whose labels are known, as many of each class.

        They are the first ones of each class in an order that depends on the seed. Raises
        ConfigurationError if a class has too few images.
        """
        assert self.num_labels is not None
        images, labels = self.splits.train
        numbers = sorted(set(self.classes or range(self.num_classes)))
        share = self.num_labels // len(numbers)
        order = torch.randperm(len(labels), generator=randomness.generator("cpu", seed, "labelled images"))
        members = {number: order[labels[order] == number][:share] for number in numbers}
        for number, found in members.items():
            if len(found) < share:
                raise ConfigurationError(
                    f"data.num_labels={self.num_labels}: class {number} has only {len(found)} training images, {share} would be labelled; "
                    f"set data.num_labels={len(numbers) * len(found) or 'null'}, or choose data.classes"
                )
        chosen = torch.cat([*members.values()])
        return Split(images[chosen], labels[chosen])

    def batches(self, seed: int, device: torch.device, rank: int = 0, world_size: int = 1, first: int = 0) -> Batches:
        """The training batches from iteration `first` on."""
        settings = self.batch_size, seed, device, rank, world_size, first
        if self.num_labels is None:
            return Batches(self.splits.train, *settings)
        return PartlyLabelled(self.splits.train, self.labelled(seed), *settings)

    def train_dataloader(self) -> Batches:
        """The training batches from the game's present iteration on."""
        assert self.trainer is not None
        game: Any = self.trainer.lightning_module
        strategy = self.trainer.strategy
        return self.batches(game.seed, strategy.root_device, self.trainer.global_rank, self.trainer.world_size, game.clock.iteration)

    def check(self, title: str, images: Tensor) -> None:
        """Raise DataError or ConfigurationError if the images of a split cannot be used."""
        if images.dtype not in (torch.uint8, torch.float32) or images.ndim < 2 or not images.numel():
            raise DataError(f"{title}: images are {_described(images)}; they have to be torch.uint8 or torch.float32 (N, ...), N > 0")
        if images.is_floating_point() and not images.isfinite().all():
            raise DataError(f"{title}: image {int((~images.flatten(1).isfinite()).any(1).nonzero()[0])} holds a number that is not finite")

    def prepare(self, images: Tensor) -> Tensor:
        """The checked images of a split as they are trained on."""
        return images

    def refuse_classes(self) -> None:
        """Raise ConfigurationError if one of `classes` does not exist."""
        wrong = [number for number in self.classes or () if number >= self.num_classes]
        if wrong:
            raise ConfigurationError(
                f"data.classes={self.classes}: there is no class {wrong[0]}; the classes are 0 to {self.num_classes - 1}"
            )

    def _prepare(self, name: str, split: Split) -> Split:
        title = f"the {name} split of {type(self).__name__}"
        images, labels = split
        self.check(title, images)
        labels = self._checked_labels(title, labels, len(images))
        if self.classes is not None:
            self.refuse_classes()
            kept = torch.isin(labels, torch.tensor(self.classes))
            images, labels = (images, labels) if kept.all() else (images[kept], labels[kept])
            if not len(labels):
                raise ConfigurationError(f"data.classes={self.classes}: the {name} split has no image of these classes; choose others")
        return Split(self.prepare(images), labels)

    def _checked_labels(self, title: str, labels: Tensor, num: int) -> Tensor:
        if labels.dtype != torch.int64 or labels.shape != (num,):
            raise DataError(f"{title}: labels are {_described(labels)}; they have to be torch.int64 ({num}), one for each image")
        if labels.min() < 0:
            raise DataError(f"{title}: a label is {int(labels.min())}; labels begin at 0")
        if self.num_classes == 1:
            return torch.zeros_like(labels)
        if labels.max() >= self.num_classes:
            raise ConfigurationError(
                f"data.num_classes={self.num_classes}: {title} has a label {int(labels.max())}; set data.num_classes={int(labels.max()) + 1} or more"
            )
        return labels


def refuse_image_parts(config: DictConfig, reason: str) -> None:
    """Refuse a model or a trick that needs images; `reason` says what the data have instead."""
    for part in ("model", "trick"):
        for name, value in leaves(OmegaConf.to_container(config[part], resolve=False)):
            if re.search(r"\$\{data\.(channels|image_size)\}", str(value)):
                choice = f"model={family(config.model)}" if part == "model" else f"trick={name.partition('.')[0]}"
                remedy = "set model=mlp" if part == "model" else "leave it out"
                raise ConfigurationError(f"{choice}: needs images, but {reason}; {remedy}")


class ImageData(Data):
    """The base class of data sets of images (N, channels, H, W), which become square.

    Images of another size than `image_size` are resized.
    """

    def __init__(self, *, image_size: Annotated[int, Ge(8)], channels: Annotated[int, Ge(1)], **settings: Any) -> None:
        super().__init__(**settings)
        self.image_size, self.channels = image_size, channels

    @classmethod
    def gives(cls, config: DictConfig) -> frozenset[str]:
        """See `Data`."""
        return super().gives(config) | {"images"}

    def check(self, title: str, images: Tensor) -> None:
        """See `Data`."""
        super().check(title, images)
        check_images(title, images, self.channels)

    def prepare(self, images: Tensor) -> Tensor:
        """The images, resized."""
        return fit(images, self.image_size)


def check_images(title: str, images: Tensor, channels: int) -> None:
    """Raise DataError or ConfigurationError if these are no images of so many channels."""
    if images.ndim != 4:
        raise DataError(f"{title}: images are {_described(images)}; they have to be (N, channels, height, width)")
    if images.is_floating_point() and not images.abs().max() <= 1:
        raise DataError(f"{title}: images range from {images.min():g} to {images.max():g}; floats have to be in [-1, 1]")
    if images.shape[1] != channels:
        raise ConfigurationError(
            f"data.channels={channels}: {title} has images of {images.shape[1]} channels; set data.channels={images.shape[1]}"
        )


def _described(tensor: Tensor) -> str:
    return f"{tensor.dtype} ({', '.join(map(str, tensor.shape))})"


def fit(images: Tensor, size: int) -> Tensor:
    """Images (N, C, H, W) as squares of `size`, resized if they are not."""
    return images if images.shape[-2:] == (size, size) else resize(images, size)


def resize(images: Tensor, size: int) -> Tensor:
    """Resize images (N, C, H, W) to `size` x `size`, bilinearly with antialiasing."""
    parts = [interpolate(part.float(), (size, size), mode="bilinear", antialias=True) for part in images.split(1000)]
    return torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in parts] if images.dtype == torch.uint8 else parts)
