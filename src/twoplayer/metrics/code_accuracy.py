"""How often a categorical code says the class of an image (InfoGAN; Chen et al., 2016)."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from twoplayer.metrics.base import Images
from twoplayer.metrics.feature_metric import FeatureMetric


class CodeAccuracy(FeatureMetric):
    """The share of samples whose class, as the classifier of the data sees it, fits their code.

    Training knows no labels, so codes are matched with classes first: one to one, so that the share
    is as large as possible.
    """

    numbers = {"code_accuracy": "higher"}
    needs = "codes"

    def compare(self, generated: Images, real: Images) -> dict[str, float]:
        answers = self.answers(generated)
        return {"code_accuracy": matched_share(generated.classes(len(answers)), answers)}


def matched_share(codes: Tensor, classes: Tensor) -> float:
    """The largest share of equal pairs of two partitions (N), (N) over all matchings."""
    size = int(max(codes.max(), classes.max())) + 1
    counts = torch.bincount(codes * size + classes, minlength=size**2).view(size, size).cpu().numpy()
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(codes))
