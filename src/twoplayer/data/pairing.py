"""Pairs of images made from a data set, for models that translate one image into another.

Each pair is a source and a target, which mostly holds more: what is inside an outline, what a hole
hides, fine detail, colours.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from twoplayer import randomness
from twoplayer.data.base import Batches, ImageData, Split, Splits
from twoplayer.errors import ConfigurationError

Kind = Literal["edges", "hole", "low_resolution", "rotation", "colors", "mnist_m"]
CHUNK = 5000
GRAY = frozenset({"edges", "hole", "low_resolution", "rotation"})
"""The kinds whose targets are the images of the data set itself, with one channel."""


class Paired(ImageData):
    """Adds a source image to each image of a data set of gray images, or changes these as well.

    - `edges`: the outline of bright areas, one pixel wide.
    - `hole`: the image without its central square, half as wide as the image.
    - `low_resolution`: the image at half the resolution, enlarged again bilinearly.
    - `rotation`: the image, turned by 90 degrees.
    - `colors`: the gray digit; the target has a colour, drawn at random.
    - `mnist_m`: the gray digit; the target has a ground of random colours, from which the image is
      told by inverting it. It is made in the manner of MNIST-M (Ganin et al., 2016,
      arXiv:1505.07818), whose grounds are photographs.

    Sources have as many channels as targets. If not `paired`, sources are drawn in an order of
    their own, so that they belong to other images than the targets beside them. Batches are
    (targets, labels of targets, sources, labels of sources).
    """

    def __init__(self, *, kind: Kind, paired: bool, channels: Literal[1, 3], **settings: Any) -> None:
        super().__init__(channels=1, **settings)
        self.kind, self.paired = kind, paired
        self._made: Splits | None = None
        self._sources: dict[str, Tensor] = {}

    @classmethod
    def gives(cls, config: DictConfig) -> frozenset[str]:
        """See `Data`."""
        return super().gives(config) | gives_sources(config)

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse a number of channels that does not fit the kind, and partly known labels."""
        data = config.data
        wanted = 1 if data.kind in GRAY else 3
        if data.channels != wanted:
            raise ConfigurationError(
                f"data.channels={data.channels}: images of data.kind={data.kind} have {wanted}; set data.channels={wanted}"
            )
        if data.channels == 3 and data.classifier is not None:
            raise ConfigurationError(
                f"data.classifier={data.classifier}: it knows gray digits, and those of data.kind={data.kind} have colours; set data.classifier=null"
            )
        refuse_num_labels(config)

    @property
    def splits(self) -> Splits:
        """The targets, made once of the images of the data set; see `Data`."""
        if self._made is None:
            made = {}
            for name, digits in super().splits._asdict().items():
                self._sources[name], targets = _pairs(self.kind, digits.images, name)
                made[name] = Split(targets, digits.labels)
            self._made = Splits(**made)
        return self._made

    def source_images(self, split: Literal["train", "validation", "test"]) -> Tensor:
        """The sources of a split (N, channels, image_size, image_size), uint8, in its order."""
        _ = self.splits
        return self._sources[split]

    def batches(self, seed: int, device: torch.device, rank: int = 0, world_size: int = 1, first: int = 0) -> Batches:
        """See `Data`."""
        train = self.splits.train
        sources = Split(self.source_images("train"), train.labels)
        return PairedBatches(train, sources, self.batch_size, seed, device, rank, world_size, first, paired=self.paired)


class PairedBatches(Batches):
    """Batches (targets, labels, sources, labels of sources).

    If not `paired`, sources are drawn in an order of their own, and may be any number.
    """

    def __init__(
        self,
        targets: Split,
        sources: Split,
        batch_size: int,
        seed: int,
        device: torch.device,
        rank: int,
        world_size: int,
        first: int,
        *,
        paired: bool,
    ) -> None:
        super().__init__(targets, batch_size, seed, device, rank, world_size, first)
        self.sources = Batches(sources, batch_size, seed, device, rank, world_size, first, "order" if paired else "order of sources")

    def drawn(self, iteration: int) -> tuple[Tensor, ...]:
        """This rank's slice of the batch of `iteration`."""
        return super().drawn(iteration) + self.sources.drawn(iteration)


def gives_sources(config: DictConfig) -> frozenset[str]:
    """What data with sources give beside the rest."""
    return frozenset({"sources", "pairs"} if config.data.paired else {"sources"})


def refuse_num_labels(config: DictConfig) -> None:
    """Refuse partly known labels, for which a batch of pairs has no place."""
    if (num := config.data.num_labels) is not None:
        raise ConfigurationError(f"data.num_labels={num}: pairs have no images without labels; set data.num_labels=null")


def outlines(images: Tensor) -> Tensor:
    """The outlines (N, C, H, W) of bright areas in uint8 images: 255 on the line, 0 elsewhere."""
    inside = (images >= 128).float()
    shrunk = -max_pool2d(-inside, 3, 1, 1)
    return ((inside - shrunk) * 255).to(torch.uint8)


def without_center(images: Tensor) -> Tensor:
    """uint8 images whose central square, half as wide as the image, is gray."""
    size = images.shape[-1]
    hole = slice(size // 4, size // 4 + size // 2)
    holed = images.clone()
    holed[..., hole, hole] = 128
    return holed


def coarse(images: Tensor) -> Tensor:
    """uint8 images at half their resolution, enlarged again bilinearly."""
    size = images.shape[-1]
    parts = []
    for part in images.split(CHUNK):
        small = interpolate(part.float(), (size // 2, size // 2), mode="bilinear", antialias=True)
        parts.append(interpolate(small, (size, size), mode="bilinear").round().clamp(0, 255).to(torch.uint8))
    return torch.cat(parts)


def colored(images: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 digits (N, 1, H, W) in one bright colour each: (N, 3, H, W)."""
    colors = torch.rand(len(images), 3, 1, 1, generator=generator)
    return torch.cat([(part * color).round().to(torch.uint8) for part, color in _chunks(images, colors / colors.amax(1, keepdim=True))])


def on_grounds(images: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 digits (N, 1, H, W) that invert a smooth ground of random colours: (N, 3, H, W)."""
    coarse_grounds = 255 * torch.rand(len(images), 3, 4, 4, generator=generator)
    parts = []
    for part, ground in _chunks(images, coarse_grounds):
        colors = interpolate(ground, images.shape[-2:], mode="bicubic").clamp(0, 255)
        parts.append((colors - part).abs().round().to(torch.uint8))
    return torch.cat(parts)


def _chunks(images: Tensor, others: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return ((part.float(), other) for part, other in zip(images.split(CHUNK), others.split(CHUNK), strict=True))


def _pairs(kind: Kind, digits: Tensor, split: str) -> tuple[Tensor, Tensor]:
    """Sources and targets of a split, from its digits (N, 1, H, W)."""
    if kind in GRAY:
        return _SOURCES[kind](digits), digits
    make = colored if kind == "colors" else on_grounds
    return digits.expand(-1, 3, -1, -1), make(digits, randomness.generator("cpu", 0, "pairs", split))


_SOURCES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "edges": outlines,
    "hole": without_center,
    "low_resolution": coarse,
    "rotation": lambda images: images.rot90(1, (2, 3)).contiguous(),
}
