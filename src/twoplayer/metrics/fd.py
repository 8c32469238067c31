"""The Fréchet distance of features (Heusel et al., 2017, arXiv:1706.08500), on this project's own features."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from twoplayer.data.base import ImageData, to_unit_range
from twoplayer.distributed import ranks
from twoplayer.metrics.base import Metric, Reference, Sampler
from twoplayer.metrics.features import CHECKSUMS, NUM_FEATURES, SIZE, FeatureExtractor, load_features

CHUNK = 500


class FrechetDistance(Metric):
    """Between Gaussians fitted to the features of `num_samples` samples and of a reference split (10,000 images of MNIST).

    Each rank computes the features of its share of the chunks; torchmetrics adds up what they found.
    """

    name = "fd"

    def __init__(self, *, num_samples: Annotated[int, Ge(2)]) -> None:
        self.num_samples = num_samples
        self._extract: FeatureExtractor
        self._features_name = ""
        self._against: dict[Reference, FrechetInceptionDistance] = {}
        self._floor = float("nan")

    def prepare(self, data: ImageData, device: torch.device) -> str | None:
        """Fit the Gaussians of the real images, and take the floor between them."""
        if data.classifier is None:
            return f"there are no features for {type(data).__name__}"
        self._features_name = data.classifier
        self._extract = load_features(data.classifier).to(device)
        features = {name: self._features(images.images.to(device)) for name, images in data.splits._asdict().items() if name != "train"}
        for name in ("validation", "test"):
            # The features are given, so that images are looked at once for all references.
            distance = FrechetInceptionDistance(feature=_Given(), reset_real_features=False).to(device)
            distance.set_dtype(torch.float64)
            distance.update(features[name], real=True)
            self._against[name] = distance  # type: ignore[index]
        self._floor = self._distances([features["validation"]], ["test"])["test"]
        return None

    def protocol(self) -> dict[str, Any]:
        """Features, their resize rule, and the sizes of samples and references."""
        return {
            "num_samples": self.num_samples,
            "features": f"{self._features_name} classifier, penultimate layer before its activation, {NUM_FEATURES}",
            "features_sha256": CHECKSUMS[self._features_name],
            "resize": f"to {SIZE} x {SIZE}, bilinear, antialiased",
        }

    def floor(self) -> float:
        """The distance of real images from real images, all of them unseen by the feature network."""
        return self._floor

    def score(self, sample: Sampler, references: Sequence[Reference]) -> dict[Reference, float]:
        """The distances of the same samples from each reference split."""
        sizes = [min(CHUNK, self.num_samples - start) for start in range(0, self.num_samples, CHUNK)]
        return self._distances(
            (self._extract(sample(size, index)) for index, size in list(enumerate(sizes))[ranks.rank() :: ranks.world_size()]), references
        )

    def _distances(self, features: Iterable[Tensor], references: Sequence[Reference]) -> dict[Reference, float]:
        for chunk in features:
            for reference in references:
                self._against[reference].update(chunk, real=False)
        distances = {reference: float(self._against[reference].compute()) for reference in references}
        for reference in references:
            self._against[reference].reset()  # forgets the samples, keeps the reference
        return distances

    def _features(self, images: Tensor) -> Tensor:
        """Of this rank's share of uint8 images."""
        return torch.cat([self._extract(to_unit_range(chunk)) for chunk in _own(images).split(CHUNK)])


class _Given(nn.Module):
    """In the place of torchmetrics' Inception network: features as they come."""

    num_features = NUM_FEATURES

    def forward(self, features: Tensor) -> Tensor:
        return features


def _own(images: Tensor) -> Tensor:
    """This rank's share."""
    return images[ranks.rank() :: ranks.world_size()]
