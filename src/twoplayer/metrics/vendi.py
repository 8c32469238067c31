"""The Vendi score (Friedman and Dieng, 2023, arXiv:2210.02410): the effective number of samples."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from twoplayer.metrics.base import Images
from twoplayer.metrics.feature_metric import FeatureMetric


class Vendi(FeatureMetric):
    """The effective number of different samples, by the cosine similarity of their features.

    It needs no real images; `vendi` of the samples is to be compared with its ceiling, that of real
    images.
    """

    numbers = {"vendi": "higher"}

    def compare(self, generated: Images, real: Images) -> dict[str, float]:
        return {"vendi": vendi_score(self.features(generated))}


def vendi_score(features: Tensor) -> float:
    """exp(entropy) of the eigenvalues of the cosine similarities of features (N, d), divided by N.

    The matrix of N x N similarities has the eigenvalues of the d x d matrix of second moments.
    """
    rows = normalize(features.double(), dim=1)
    eigenvalues = torch.linalg.eigvalsh(rows.T @ rows / len(rows)).clamp(min=0)
    return float(torch.special.entr(eigenvalues).sum().exp())
