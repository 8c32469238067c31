"""Images, vectors or tensors of any shape, from one .npz or .safetensors file."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge, Len, MinLen
from omegaconf import DictConfig
from torch import Tensor

from twoplayer import randomness
from twoplayer.data.array_file import Stored, open_arrays
from twoplayer.data.base import Data, Split, Splits, check_images, fit, refuse_image_parts
from twoplayer.data.layouts import Measured, measured, to_images
from twoplayer.errors import ConfigurationError, DataError

log = logging.getLogger(__name__)

PREFIXES = {"train": ("train_", ""), "validation": ("validation_", "val_"), "test": ("test_",)}
NAMES = ("images", "data")
"""An array of examples is called by one of PREFIXES and one of NAMES, such as `test_images`."""
OF_OTHER_SPLITS = frozenset(prefix + name for split in ("validation", "test") for prefix in PREFIXES[split] for name in NAMES)


class Part(NamedTuple):
    """The arrays of one split."""

    examples: Stored
    labels: Stored | None


class Array(Data):
    """The arrays `images` or `data`, or the only one, and `labels`, if there are any.

    A file may have splits of its own: `train_images`, `train_labels`, `test_images`. A split that
    it lacks is a tenth of the training examples, drawn once for all runs; the players do not train
    on them.
    """

    def __init__(
        self,
        *,
        file: Annotated[str, MinLen(1)],
        range: Annotated[list[float], Len(2, 2)] | None,
        shape: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] | None,
        channels: Annotated[int, Ge(1)] | None,
        image_size: Annotated[int, Ge(8)] | None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.file, self.range, self.shape, self.channels, self.image_size = Path(file), range, shape, channels, image_size

    @classmethod
    def gives(cls, config: DictConfig) -> frozenset[str]:
        """See `Data`."""
        return super().gives(config) | ({"images"} if config.data.shape is None else frozenset())

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse what needs images, where the file holds something else."""
        Data.refuse(config)
        data = config.data
        if data.range is not None and data.range[0] >= data.range[1]:
            raise ConfigurationError(f"data.range={data.range}: must be two numbers, the smaller one first")
        if (data.shape is None) != (data.channels is not None and data.image_size is not None):
            raise ConfigurationError(
                f"data.shape={data.shape}: either images (data.channels, data.image_size) or data of another shape (data.shape) are trained on; set the other to null"
            )
        if data.shape is None:
            return
        if data.classifier is not None:
            raise ConfigurationError(
                f"data.classifier={data.classifier}: needs images, but an example is {data.shape}; set data.classifier=null"
            )
        refuse_image_parts(config, f"an example in {data.file} is {data.shape}")

    def load(self) -> Splits:
        """See `Data`."""
        parts, unused = find_parts(self.file)
        if unused:
            log.warning("%s: not used: %s", self.file, ", ".join(unused))
        if self.num_classes > 1 and parts["train"].labels is None:
            raise ConfigurationError(f"data.num_classes={self.num_classes}: {self.file} has no array `labels`; set data.num_classes=1")
        splits = _held_out(self.file, {name: self._read(name, part) for name, part in parts.items()})
        if splits["train"].images.dtype != torch.uint8:
            splits = self._scaled(splits)
        return Splits(**splits)

    def check(self, title: str, images: Tensor) -> None:
        """See `Data`."""
        super().check(title, images)
        if self.shape is None:
            assert self.channels is not None
            check_images(title, images, self.channels)
        elif list(images.shape[1:]) != self.shape:
            raise ConfigurationError(
                f"data.shape={self.shape}: {title} has examples of another shape; set data.shape={list(images.shape[1:])}"
            )

    def prepare(self, images: Tensor) -> Tensor:
        """See `Data`."""
        return images if self.image_size is None else fit(images, self.image_size)

    def _read(self, name: str, part: Part) -> Split:
        examples = part.examples.read()
        if examples.dtype != torch.uint8 or self.range is not None:
            examples = examples.float()
            if not examples.isfinite().all():
                number = int((~examples.flatten(1).isfinite()).any(1).nonzero()[0])
                raise DataError(f"{self.file}: the {name} example {number} holds a number that is not finite (in float32)")
        labels = torch.zeros(len(examples), dtype=torch.int64) if part.labels is None else part.labels.read().long().view(-1)
        return Split(to_images(examples) if self.shape is None else examples, labels)

    def _scaled(self, splits: Mapping[str, Split]) -> dict[str, Split]:
        """Floats from `range` to [-1, 1]."""
        low = min(split.images.min().item() for split in splits.values())
        high = max(split.images.max().item() for split in splits.values())
        given = None if self.range is None else torch.tensor(self.range, dtype=torch.float32).tolist()  # as the numbers are
        if given is None:
            if low == high:
                raise DataError(f"{self.file}: all numbers are {low:g}; there is nothing to learn")
            log.info("the data range from %g to %g, which becomes [-1, 1]; data.range sets another range", low, high)
        elif low < given[0] or high > given[1]:
            raise DataError(
                f"data.range={self.range}: the numbers in {self.file} range from {low:g} to {high:g}; set a range that holds them"
            )
        start, end = given or (low, high)
        return {
            name: split._replace(images=split.images.double().sub_(start).mul_(2 / (end - start)).sub_(1).clamp_(-1, 1).float())
            for name, split in splits.items()
        }


def find_parts(file: Path) -> tuple[dict[str, Part], list[str]]:
    """The arrays of the splits that a file has, "train" and perhaps others, not read yet.

    Returns also the names of the arrays that belong to none. Raises DataError if they are missing,
    or of types or shapes that cannot be used.
    """
    arrays = open_arrays(file)
    found: dict[str, Part] = {}
    used: set[str] = set()
    for split, prefixes in PREFIXES.items():
        names = [(prefix, prefix + name) for prefix in prefixes for name in NAMES if prefix + name in arrays]
        others = [name for name in arrays if name != "labels"]
        if split == "train" and not names and len(others) == 1 and others[0] not in OF_OTHER_SPLITS:
            names = [("", others[0])]
        for prefix, name in names[:1]:
            found[split] = Part(arrays[name], arrays.get(f"{prefix}labels"))
            used |= {name, f"{prefix}labels"}
    if "train" not in found:
        raise DataError(f"{file} holds {_listed(arrays)}; call the examples images or data, and their labels, if there are any, labels")
    for split, part in found.items():
        _check_part(f"{file}: the {split} split", part, found["train"])
    return found, [name for name in arrays if name not in used]


def measure(file: str) -> Measured:
    """What a file says of the configuration. Raises what `find_parts` raises."""
    parts, _ = find_parts(Path(file))
    labels = [part.labels.read() for part in parts.values() if part.labels is not None]
    return measured(parts["train"].examples.shape[1:], max((int(part.max()) + 1 for part in labels), default=1))


def _check_part(title: str, part: Part, train: Part) -> None:
    examples, labels = part
    if examples.kind not in ("uint8", "float"):
        raise DataError(f"{title} holds examples of type {examples.kind}; save them as uint8 or float32")
    if len(examples.shape) < 2 or 0 in examples.shape:
        raise DataError(f"{title} holds examples of shape {examples.shape}; it has to be (N, ...), with no size 0")
    if examples.shape[1:] != train.examples.shape[1:] or examples.kind != train.examples.kind:
        raise DataError(
            f"{title} holds examples {examples.shape} of type {examples.kind}, unlike {train.examples.shape} of {train.examples.kind} to train on"
        )
    if (labels is None) != (train.labels is None):
        raise DataError(f"{title} has {'no ' if labels is None else ''}labels, unlike the training examples; give labels for all or none")
    if labels is None:
        return
    if labels.kind not in ("uint8", "integer"):
        raise DataError(f"{title} holds labels of type {labels.kind}; save them as whole numbers, such as int64")
    if labels.shape not in ((examples.shape[0],), (examples.shape[0], 1)):
        raise DataError(f"{title} holds labels of shape {labels.shape} for {examples.shape[0]:,} examples; there has to be one for each")
    if (low := int(labels.read().min())) < 0:
        raise DataError(f"{title} holds a label {low}; labels begin at 0")


def _held_out(file: Path, splits: Mapping[str, Split]) -> dict[str, Split]:
    """The splits, of which the missing ones are taken from the training examples."""
    train = splits["train"]
    missing = [name for name in ("validation", "test") if name not in splits]
    num = len(train.images) // 10 or 1
    if len(train.images) <= len(missing):
        raise DataError(f"{file} holds {len(train.images)} examples, too few for the three splits")
    order = torch.randperm(len(train.images), generator=randomness.generator("cpu", 0, "held out"))
    places = {name: order[num * place : num * (place + 1)] for place, name in enumerate(missing)}
    if missing:
        places["train"] = order[num * len(missing) :]
    return {**splits, **{name: Split(train.images[place], train.labels[place]) for name, place in places.items()}}


def _listed(arrays: Mapping[str, Stored]) -> str:
    return f"the arrays {', '.join(arrays)}" if arrays else "no array"
