"""The kernel distance on this project's own features (Bińkowski et al., 2018, arXiv:1801.01401)."""

from typing import Annotated, Any

import torch
from annotated_types import Ge
from omegaconf import DictConfig
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from twoplayer import randomness
from twoplayer.errors import ConfigurationError
from twoplayer.metrics.base import Images
from twoplayer.metrics.feature_metric import FeatureMetric


class KID(FeatureMetric):
    """The squared maximum mean discrepancy of features, with a kernel of degree 3.

    It is unbiased, unlike `fd`: its expectation for two sets of one distribution is 0, so that it
    may be negative. It is the mean over disjoint subsets of `subset_size` samples and images.
    """

    numbers = {"kid": "lower"}

    def __init__(self, *, num_samples: Annotated[int, Ge(2)], subset_size: Annotated[int, Ge(2)]) -> None:
        super().__init__(num_samples=num_samples)
        self.subset_size = subset_size

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse subsets that are larger than the set."""
        FeatureMetric.refuse(config)
        settings = config.metric.kid
        if settings.subset_size > settings.num_samples:
            raise ConfigurationError(
                f"metric.kid.subset_size={settings.subset_size}: must not be greater than metric.kid.num_samples={settings.num_samples}"
            )

    def protocol(self) -> dict[str, Any]:
        return {**super().protocol(), "subset_size": self.subset_size}

    def compare(self, generated: Images, real: Images) -> dict[str, float]:
        return {"kid": kernel_distance(self.features(generated), self.features(real), self.subset_size)}


def kernel_distance(one: Tensor, other: Tensor, subset_size: int) -> float:
    """The kernel distance of features (N, d) and (M, d), the mean over disjoint random subsets.

    Rows that do not fill a subset are left out.
    """
    size = min(subset_size, len(one), len(other))
    sides = []
    for place, features in (("one", one), ("other", other)):
        order = torch.randperm(len(features), generator=randomness.generator("cpu", 0, "kid", place))
        sides.append(features[order].double().split(size))
    pairs = [pair for pair in zip(*sides, strict=False) if len(pair[0]) == len(pair[1]) == size]
    return sum(float(poly_mmd(*pair)) for pair in pairs) / len(pairs)
