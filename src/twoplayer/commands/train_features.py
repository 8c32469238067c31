"""Training the classifier whose features scores use, on images with labels."""

import hashlib
import shlex
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, MinLen
from rich.console import Console
from rich.progress import track
from torch.nn.functional import cross_entropy

from twoplayer import randomness
from twoplayer.data.base import Batches, Data, Split, to_unit_range
from twoplayer.errors import ConfigurationError, DataError
from twoplayer.metrics.features import SUFFIX, Classifier, Takes, saved
from twoplayer.paths import command, make_folder, override, replacing, shown

PART = 1000
"""How many images are classified at a time."""


def train_features(
    *,
    data: Data,
    output: Annotated[str, MinLen(1)],
    epochs: Annotated[int, Ge(1)],
    batch_size: Annotated[int, Ge(2)],
    seed: Annotated[int, Ge(0)],
) -> None:
    """Train a classifier, write its weights to `output`, and print its accuracy and its sha256.

    Scores are comparable only between the same weights, so they are trained once and kept. Raises
    ConfigurationError if the data are no images or have no labels.
    """
    path = Path(output)
    if path.suffix != SUFFIX:
        raise ConfigurationError(f"output={output}: must end in {SUFFIX}")
    if data.num_classes == 1:
        raise ConfigurationError("data.num_classes=1: a classifier needs labels; metric=c2st scores without a classifier")
    split = apart(data)
    if split.images.ndim != 4:
        raise ConfigurationError("data: a classifier needs images; metric=c2st scores data of any shape, without a classifier")
    make_folder("output", path.parent)
    classifier = fit(split, data.num_classes, epochs, batch_size, seed)
    content = saved(classifier)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    on_test, on_validation = (accuracy(classifier, part) for part in (data.splits.test, data.splits.validation))
    print(f"trained on {len(split.labels):,} images; accuracy {on_test:.4f} on the test split, {on_validation:.4f} on the validation split")
    print(f"{shown(path)}: sha256 {hashlib.sha256(content).hexdigest()}")
    print(f"next\n  add {shlex.quote(override('data.classifier', path))} to {command('train')}")


def apart(data: Data) -> Split:
    """The training images that are in no split which scores compare with.

    MNIST's validation split is a part of its training split; so may be that of other data.
    """
    references = {_digest(image) for split in (data.splits.validation, data.splits.test) for image in split.images}
    images, labels = data.splits.train
    kept = torch.tensor([_digest(image) not in references for image in images])
    if not kept.any():
        raise DataError("all training images are also in the validation or test split; none is left to train a classifier on")
    return Split(images, labels) if kept.all() else Split(images[kept], labels[kept])


def fit(split: Split, num_classes: int, epochs: int, batch_size: int, seed: int) -> Classifier:
    """A classifier of square images (N, C, H, W), trained for so many epochs, on the CPU."""
    randomness.restart(seed, "features")
    classifier = Classifier(Takes(num_classes, *split.images.shape[1:3]))
    num_iterations = max(epochs * len(split.labels) // batch_size, 2)  # one would be no schedule
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=2e-3, weight_decay=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=num_iterations)
    batches = Batches(split, batch_size, seed, torch.device("cpu"))
    for iteration in track(range(num_iterations), "training", console=Console(stderr=True)):
        images, labels = batches.batch(iteration)
        optimizer.zero_grad()
        cross_entropy(classifier(images), labels).backward()
        optimizer.step()
        schedule.step()
    return classifier


def accuracy(classifier: Classifier, split: Split) -> float:
    """The share of a split that is classified correctly."""
    classifier.eval()
    with torch.inference_mode():
        right = [
            (classifier(to_unit_range(images)).argmax(1) == labels).sum()
            for images, labels in zip(split.images.split(PART), split.labels.split(PART), strict=True)
        ]
    return float(torch.stack(right).sum()) / len(split.labels)


def _digest(image: torch.Tensor) -> bytes:
    return hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=16).digest()
