"""Precision and recall on this project's own features (Kynkäänniemi et al., arXiv:1904.06991)."""

from collections.abc import Iterator
from typing import Annotated, Any

import torch
from annotated_types import Ge
from omegaconf import DictConfig
from torch import Tensor

from twoplayer.errors import ConfigurationError
from twoplayer.metrics.base import Images
from twoplayer.metrics.feature_metric import FeatureMetric

ROWS = 250
"""The number of rows of the distance matrix in memory at a time."""


class PrecisionRecall(FeatureMetric):
    """Precision and recall of samples by the manifolds of their features and of real ones.

    Precision is the share of samples on the manifold of real images, recall the share of real
    images on the manifold of samples. The manifold of a set is the union of balls around its
    members; the radius of each is the distance to the k-th nearest neighbour in the set.
    """

    numbers = {"precision": "higher", "recall": "higher"}

    def __init__(self, *, num_samples: Annotated[int, Ge(2)], num_neighbors: Annotated[int, Ge(1)]) -> None:
        super().__init__(num_samples=num_samples)
        self.num_neighbors = num_neighbors

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse as many neighbours as samples, or more: the k-th neighbour would not exist."""
        FeatureMetric.refuse(config)
        for name, settings in config.metric.items():
            if "num_neighbors" in settings and settings.num_samples <= settings.num_neighbors:
                raise ConfigurationError(
                    f"metric.{name}.num_samples={settings.num_samples}: must be greater than metric.{name}.num_neighbors={settings.num_neighbors}"
                )

    def protocol(self) -> dict[str, Any]:
        return {**super().protocol(), "num_neighbors": self.num_neighbors}

    def compare(self, generated: Images, real: Images) -> dict[str, float]:
        return {
            "precision": covered(self.features(generated), self.features(real), self._radii(real)),
            "recall": covered(self.features(real), self.features(generated), self._radii(generated)),
        }

    def _radii(self, images: Images) -> Tensor:
        features = self.features(images)
        return images.keep(("radii", self.num_neighbors, len(features)), lambda: squared_radii(features, self.num_neighbors))


def precision_recall(generated: Tensor, real: Tensor, num_neighbors: int) -> tuple[float, float]:
    """Precision and recall of samples' features (N, d) against those of real images (M, d)."""
    return covered(generated, real, squared_radii(real, num_neighbors)), covered(real, generated, squared_radii(generated, num_neighbors))


def squared_radii(features: Tensor, num_neighbors: int) -> Tensor:
    """Squared distances (N) of features (N, d) to their k-th nearest neighbour; N > k."""
    radii = [rows.topk(num_neighbors + 1, dim=1, largest=False).values[:, -1] for rows in squared_distances(features, features)]
    return torch.cat(radii)  # the nearest neighbour is the image itself


def covered(features: Tensor, others: Tensor, squared_radii: Tensor) -> float:
    """The share of the features (N, d) inside the ball of at least one of the others (M, d)."""
    inside = [(rows <= squared_radii).any(1) for rows in squared_distances(features, others)]
    return float(torch.cat(inside).double().mean())


def squared_distances(one: Tensor, other: Tensor) -> Iterator[Tensor]:
    """Squared distances from each of `one` (N, d) to each of `other` (M, d), as blocks (n, M)."""
    center = other.mean(0)  # small norms, so that float32 does not round small distances away
    one, other = one - center, other - center
    norms = other.square().sum(1)
    for rows in one.split(ROWS):
        yield torch.addmm(norms, rows, other.T, alpha=-2).add_(rows.square().sum(1, keepdim=True))
