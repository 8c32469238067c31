"""The base class of metrics on features, which one rank computes once per image for all metrics."""

from collections.abc import Callable
from typing import Annotated, Any

import torch
from annotated_types import Ge
from omegaconf import DictConfig
from torch import Tensor

from twoplayer.data.base import Data
from twoplayer.distributed import ranks
from twoplayer.errors import DataError
from twoplayer.metrics.base import Images, Metric
from twoplayer.metrics.features import NUM_FEATURES, FeatureExtractor, load_features


class FeatureMetric(Metric):
    """Compares the features of `num_samples` samples with those of all real images of a split.

    A subclass defines `compare`.
    """

    def __init__(self, *, num_samples: Annotated[int, Ge(2)]) -> None:
        self.num_samples = num_samples
        self._extract: FeatureExtractor

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse a classifier that does not exist, or that takes other images."""
        data = config.data
        if data.classifier is not None:
            load_features(data.classifier).refuse(data.classifier, data.get("channels"), data.num_classes)

    def prepare(self, data: Data, device: torch.device) -> str | None:
        if data.classifier is None:
            return "the data have no classifier (data.classifier=null); metric=c2st needs none"
        self._extract, self._device = load_features(data.classifier).to(device), device
        return None

    def protocol(self) -> dict[str, Any]:
        return {
            "num_samples": self.num_samples,
            "features": f"{self._extract.title} classifier, penultimate layer before its activation, {NUM_FEATURES}",
            "features_sha256": self._extract.sha256,
            "resize": f"to {self._extract.takes.image_size} x {self._extract.takes.image_size}, bilinear, antialiased",
        }

    def features(self, images: Images) -> Tensor:
        """The features (N, 128) of `num_samples` samples, or of all images of a real split.

        They are the same on every rank. Raises DataError if the features of real images are not
        finite, or the same for all.
        """
        num = self.num_samples if images.num is None else images.num
        features = images.keep((self._extract.sha256, num), lambda: over_ranks(images, num, self._extract, NUM_FEATURES, self._device))
        if images.num is not None and (not features.isfinite().all() or (features == features[0]).all()):
            raise DataError(
                f"the {self._extract.title} classifier gives features that are not finite, or the same for all real images; check the images, or set data.classifier=null"
            )
        return features

    def answers(self, images: Images) -> Tensor:
        """The classes (N) that the classifier assigns to the images of `features`."""
        with torch.no_grad(), torch.autocast(self._device.type, enabled=False):
            found: Tensor = self._extract.classifier.logits(self.features(images)).argmax(1)
        return found


def over_ranks(images: Images, num: int, extract: Callable[[Tensor], Tensor], width: int, device: torch.device) -> Tensor:
    """The features (num, width) of the first `num` images, the same on every rank.

    Each rank fills its own chunks and leaves the rest zero: the sum is exact.
    """
    own = torch.zeros(num, width, device=device)
    for place, chunk in images.chunks(num, ranks.rank(), ranks.world_size()):
        own[place] = extract(chunk)
    return torch.stack(ranks.gather(own)).sum(0)
