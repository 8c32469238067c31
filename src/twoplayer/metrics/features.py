"""Features of images: the penultimate layer of a small classifier, before its activation.

A Fréchet distance compares Gaussians, and the outputs of a linear layer are closer to Gaussian than
those of a ReLU. `src/train_features.py` trains the classifier on real images alone, the first
50,000 of the training split; its weights are in this folder, pinned by their sha256. With 128
features, the floor of a Fréchet distance over 10,000 samples is far below any generator's score.
"""

import hashlib
from importlib import resources
from typing import cast

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.functional import interpolate

from twoplayer.errors import ConfigurationError, DataError, unknown

NUM_FEATURES = 128
NUM_TRAINING = 50_000
SIZE = 28

CHECKSUMS = {
    "mnist": "8a917760a88b3af2bdfed73a8da01e9da5e003cb9a6f4fd60b5be5a20c3dfd86",  # 99.39 % of the test split
    "fashion_mnist": "b5460e9518500a55d37b035ef640d4fd213a52f7a7695772174b450d39300628",  # 92.14 %
}


class Classifier(nn.Module):
    """A small convolutional network for classes of gray 28 x 28 images."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

        self.convolutions = nn.Sequential(
            *block(1, 32, 5, 2), *block(32, 64, 3, 1), nn.MaxPool2d(2), *block(64, 64, 3, 1), *block(64, 64, 3, 2), nn.Flatten()
        )
        self.features = nn.Linear(64 * 4 * 4, NUM_FEATURES)
        self.logits = nn.Sequential(nn.ReLU(), nn.Dropout(0.3), nn.Linear(NUM_FEATURES, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, 1, 28, 28) in [-1, 1]."""
        return cast(Tensor, self.logits(self.features(self.convolutions(images))))


class FeatureExtractor(nn.Module):
    """The frozen features of a classifier: images (N, 1, H, W) in [-1, 1] to (N, 128).

    Other sizes are resized to 28 x 28, bilinearly with antialiasing. The module stays in eval mode
    and runs in float32, also under autocast.
    """

    num_features = NUM_FEATURES

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "FeatureExtractor":
        """Stay in eval mode: training mode would change the features."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 128) in float32."""
        with torch.autocast(images.device.type, enabled=False):
            images = images.float()
            if images.shape[-2:] != (SIZE, SIZE):
                images = interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)
            return cast(Tensor, self.classifier.features(self.classifier.convolutions(images)))


def load_features(name: str) -> FeatureExtractor:
    """The extractor that `data.classifier` names.

    Raises ConfigurationError if there is none of this name, DataError if its file has another
    sha256 than the one that scores are defined by.
    """
    if name not in CHECKSUMS:
        raise ConfigurationError(f"data.classifier={name}: {unknown(name, CHECKSUMS, kind='feature network')}")
    content = resources.files(__package__).joinpath(f"{name}.safetensors").read_bytes()
    if hashlib.sha256(content).hexdigest() != CHECKSUMS[name]:
        raise DataError(
            f"twoplayer/metrics/{name}.safetensors is not the file that scores are defined by (wrong sha256): restore it from the repository"
        )
    weights = load(content)
    classifier = Classifier(num_classes=len(weights["logits.2.weight"]))
    classifier.load_state_dict(weights)
    return FeatureExtractor(classifier)
