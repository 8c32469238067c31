"""Features of images: the penultimate layer of a small classifier, before its activation.

A Fréchet distance compares Gaussians, and the outputs of a linear layer are closer to Gaussian than
those of a ReLU. With 128 features, the floor of a Fréchet distance over 10,000 samples is far below
any generator's score.

`src/train_features.py` trains a classifier on real images alone. Those of MNIST and Fashion-MNIST
are in this folder, trained on the first 50,000 images, and pinned by their sha256. One of other
data is a .safetensors file, whose metadata say which images it takes.
"""

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import NamedTuple, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.functional import interpolate

from twoplayer.errors import ConfigurationError, DataError, unknown

NUM_FEATURES = 128
SUFFIX = ".safetensors"

CHECKSUMS = {
    "mnist": "8a917760a88b3af2bdfed73a8da01e9da5e003cb9a6f4fd60b5be5a20c3dfd86",  # 99.39 % of the test split
    "fashion_mnist": "b5460e9518500a55d37b035ef640d4fd213a52f7a7695772174b450d39300628",  # 92.14 %
}


class Takes(NamedTuple):
    """The images that a classifier was trained on. Others of as many channels are resized."""

    num_classes: int
    channels: int = 1
    image_size: int = 28


class Classifier(nn.Module):
    """A small convolutional network for classes of square images.

    Beyond 48 x 48, each doubling of the size adds one strided convolution.
    """

    def __init__(self, takes: Takes) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

        self.takes = takes
        more, side = [], _half(takes.image_size)
        while side > 24:
            more += block(32, 32, 3, 2)
            side = _half(side)
        self.convolutions = nn.Sequential(
            *block(takes.channels, 32, 5, 2),
            *more,
            *block(32, 64, 3, 1),
            nn.MaxPool2d(2),
            *block(64, 64, 3, 1),
            *block(64, 64, 3, 2),
            nn.Flatten(),
        )
        self.features = nn.Linear(64 * _half(side // 2) ** 2, NUM_FEATURES)
        self.logits = nn.Sequential(nn.ReLU(), nn.Dropout(0.3), nn.Linear(NUM_FEATURES, takes.num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, C, H, W) in [-1, 1] of the size that it takes."""
        return cast(Tensor, self.logits(self.features(self.convolutions(images))))


class FeatureExtractor(nn.Module):
    """The frozen features of a classifier: images (N, C, H, W) in [-1, 1] to (N, 128).

    Other sizes are resized to that of the classifier, bilinearly with antialiasing. The module
    stays in eval mode and runs in float32, also under autocast. `title` and `sha256` say which
    classifier it is.
    """

    num_features = NUM_FEATURES

    def __init__(self, classifier: Classifier, title: str, sha256: str) -> None:
        super().__init__()
        self.classifier, self.title, self.sha256 = classifier.requires_grad_(False), title, sha256
        self.takes = classifier.takes
        self.eval()

    def train(self, mode: bool = True) -> "FeatureExtractor":
        """Stay in eval mode: training mode would change the features."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 128) in float32."""
        size = self.takes.image_size
        with torch.autocast(images.device.type, enabled=False):
            images = images.float()
            if images.shape[-2:] != (size, size):
                images = interpolate(images, (size, size), mode="bilinear", antialias=True)
            return cast(Tensor, self.classifier.features(self.classifier.convolutions(images)))

    def refuse(self, name: str, channels: int | None, num_classes: int) -> None:
        """Raise ConfigurationError if the classifier cannot judge such images.

        `name` is its name in the configuration. `channels` is None if the data are no images.
        """
        remedy = "train one with src/train_features.py, or set data.classifier=null"
        if channels != self.takes.channels:
            raise ConfigurationError(
                f"data.classifier={name}: takes images of {_number(self.takes.channels, 'channel')}, and these have {channels or 'none'}; {remedy}"
            )
        if num_classes > self.takes.num_classes:
            raise ConfigurationError(
                f"data.classifier={name}: knows {self.takes.num_classes} classes, and these data have {num_classes}; {remedy}"
            )


def load_features(name: str) -> FeatureExtractor:
    """The extractor that `data.classifier` names: one of `CHECKSUMS`, or a .safetensors file.

    Raises ConfigurationError if there is none of this name, DataError if its file is missing, is no
    classifier, or has another sha256 than the one that scores are defined by.
    """
    if name.endswith(SUFFIX):
        return _from_file(Path(name))
    if name not in CHECKSUMS:
        message = unknown(name, CHECKSUMS, kind="feature network")
        raise ConfigurationError(f"data.classifier={name}: {message}, or a {SUFFIX} file of src/train_features.py")
    content = resources.files(__package__).joinpath(f"{name}{SUFFIX}").read_bytes()
    if hashlib.sha256(content).hexdigest() != CHECKSUMS[name]:
        raise DataError(
            f"twoplayer/metrics/{name}.safetensors is not the file that scores are defined by (wrong sha256): restore it from the repository"
        )
    weights = load(content)
    classifier = Classifier(Takes(len(weights["logits.2.weight"])))
    classifier.load_state_dict(weights)
    return FeatureExtractor(classifier, name, CHECKSUMS[name])


def saved(classifier: Classifier) -> bytes:
    """The content of a file that `load_features` reads; the same weights give the same bytes.

    Several entries of metadata would be written in a random order, so there is one.
    """
    return save(classifier.state_dict(), {"takes": json.dumps(classifier.takes._asdict())})


def _from_file(path: Path) -> FeatureExtractor:
    remedy = "name a file that src/train_features.py has written"
    if not path.is_file():
        raise DataError(f"data.classifier={path}: there is no such file; {remedy}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        content = path.read_bytes()
        weights = load(content)
    except (SafetensorError, OSError) as error:
        raise DataError(f"data.classifier={path}: cannot be read as safetensors ({error}); {remedy}") from error
    try:
        classifier = Classifier(Takes(**json.loads(metadata["takes"])))
        classifier.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # metadata, or weights, of something else
        raise DataError(f"data.classifier={path}: holds no feature classifier; {remedy}") from error
    return FeatureExtractor(classifier, path.name, hashlib.sha256(content).hexdigest())


def _half(side: int) -> int:
    """The side of an image after a convolution of stride 2, which rounds up."""
    return -(-side // 2)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
