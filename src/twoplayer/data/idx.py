"""Any images in the IDX format of MNIST, such as KMNIST, EMNIST or one's own."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import MinLen
from torch import Tensor

from twoplayer.data.base import ImageData, Split, Splits
from twoplayer.data.idx_format import parse_idx, read_bytes, read_shape
from twoplayer.data.layouts import Measured, measured, to_images
from twoplayer.errors import ConfigurationError, DataError

SUBFOLDERS = ("", "raw", "gzip")
"""Where files are looked for below `root`: torchvision and EMNIST have a folder of their own."""
MAX_VALIDATION = 10_000

_NAME = re.compile(r"(?P<prefix>.*?)-?(?P<part>train|t10k|test)-(?P<kind>images|labels)[-.]idx\d-ubyte(\.gz)?")


class IDX(ImageData):
    """Images and labels from the files `<prefix>-train-images-idx3-ubyte` and so on, plain or .gz.

    The test images are called t10k or test. The validation split is the last tenth of the training
    images, 10,000 at most; the players do not train on them. Without files of labels there is one
    class.
    """

    def __init__(self, *, root: Annotated[str, MinLen(1)], prefix: str | None, **settings: Any) -> None:
        super().__init__(**settings)
        self.root, self.prefix = Path(root), prefix

    def load(self) -> Splits:
        """See `Data`. No checksum is known, so only formats and sizes are checked."""
        files = find_files(self.root, self.prefix)
        if self.num_classes > 1 and "train labels" not in files:
            raise ConfigurationError(f"data.num_classes={self.num_classes}: {self.root} has no labels; set data.num_classes=1")
        train, test = (_read(files, part) for part in ("train", "test"))
        num = min(MAX_VALIDATION, len(train.images) // 10 or 1)
        if len(train.images) < 2:
            raise DataError(f"{files['train images']} holds {len(train.images)} images; one to train on and one to validate are needed")
        return Splits(Split(train.images[:-num], train.labels[:-num]), Split(train.images[-num:], train.labels[-num:]), test)


def find_files(root: Path, prefix: str | None) -> dict[str, Path]:
    """The files of one data set: "train images", "test images", and "train labels", "test labels".

    Raises DataError if one of them is missing, and ConfigurationError if there are several data
    sets and `prefix` names none of them.
    """
    sets: dict[str, dict[str, Path]] = {}
    for folder in (root / name for name in SUBFOLDERS):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():  # a plain file comes before its .gz
            if found := _NAME.fullmatch(path.name):
                part = f"{found['part'].replace('t10k', 'test')} {found['kind']}"
                sets.setdefault(found["prefix"], {}).setdefault(part, path)
    if not sets:
        raise DataError(
            f"data.root={root}: there are no IDX files here, such as train-images-idx3-ubyte or train-images-idx3-ubyte.gz; "
            "name the folder that has these files"
        )
    known = ", ".join(name or "'' (nothing)" for name in sorted(sets))
    if prefix not in sets and (prefix is not None or len(sets) > 1):
        raise ConfigurationError(
            f"data.prefix={'null' if prefix is None else prefix}: the files in {root} begin with {known}; set data.prefix to one of these"
        )
    files = sets[next(iter(sets)) if prefix is None else prefix]
    needed = ["train images", "test images", *(["train labels", "test labels"] if any("labels" in part for part in files) else [])]
    for part in needed:
        if part not in files:
            raise DataError(f"data.root={root}: there is no file of the {part} beside {next(iter(files.values())).name}; add it")
    return files


def measure(root: str, prefix: str | None) -> Measured:
    """What the files say of the configuration. Raises what `find_files` raises."""
    files = find_files(Path(root), prefix)
    shape = read_shape(files["train images"])
    if len(shape) not in (3, 4):
        raise DataError(
            f"{files['train images']} has the shape ({', '.join(map(str, shape))}), not that of images, (N, H, W) or (N, C, H, W); "
            "data=array takes other shapes, as .npz"
        )
    labels = [_labels(files[part]) for part in ("train labels", "test labels") if part in files]
    return measured(shape[1:], max((int(part.max()) + 1 for part in labels if part.numel()), default=1))


def _read(files: Mapping[str, Path], part: str) -> Split:
    images = to_images(_parsed(files[f"{part} images"]))
    labels = _labels(files[f"{part} labels"]) if f"{part} labels" in files else torch.zeros(len(images), dtype=torch.int64)
    if labels.shape != images.shape[:1]:
        raise DataError(f"{files[f'{part} labels']} holds labels ({', '.join(map(str, labels.shape))}); there are {len(images):,} images")
    return Split(images, labels)


def _labels(path: Path) -> Tensor:
    return _parsed(path).long()


def _parsed(path: Path) -> Tensor:
    return parse_idx(read_bytes(path), path)
