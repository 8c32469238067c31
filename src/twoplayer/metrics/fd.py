"""The Fréchet distance of this project's own features (Heusel et al., 2017, arXiv:1706.08500)."""

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from twoplayer.metrics.base import Images
from twoplayer.metrics.feature_metric import FeatureMetric


class FD(FeatureMetric):
    """The Fréchet distance between the features of samples and those of real images."""

    numbers = {"fd": "lower"}

    def compare(self, generated: Images, real: Images) -> dict[str, float]:
        return {"fd": frechet_distance(self.features(generated), self.features(real))}


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """The Fréchet distance of Gaussians fitted to features (N, d) and (M, d), in float64.

    It is |mean - mean'|^2 + tr(C + C' - 2 sqrt(C C')).
    """
    given = nn.Identity()  # replaces torchmetrics' Inception network
    given.num_features = one.shape[1]  # type: ignore[assignment]
    distance = FrechetInceptionDistance(feature=given, sync_on_compute=False).to(one.device)  # all ranks have all features
    distance.set_dtype(torch.float64)
    distance.update(one, real=False)
    distance.update(other, real=True)
    return float(distance.compute())
