"""How samples are spread over the classes of the data, by the answers of the classifier."""

import torch

from twoplayer.metrics.base import Images
from twoplayer.metrics.feature_metric import FeatureMetric


class Classes(FeatureMetric):
    """The shares of classes among samples, compared with those among real images.

    - `class_kl`: the Kullback-Leibler divergence of the samples' shares from the real ones.
    - `class_tv`: their total variation: the share of samples that are of the wrong class.
    - `effective_classes`: exp(entropy) of the samples' shares: 10 if ten classes are drawn equally
      often, 1 if only one is.
    """

    numbers = {"class_kl": "lower", "class_tv": "lower", "effective_classes": "higher"}

    def compare(self, generated: Images, real: Images) -> dict[str, float]:
        num = self._extract.takes.num_classes
        fake, true = ((counts := self.answers(images).bincount(minlength=num).double()) / counts.sum() for images in (generated, real))
        ratio = torch.special.xlogy(fake, fake) - torch.special.xlogy(fake, true.clamp(min=1e-12))
        return {
            "class_kl": float(ratio.sum()),
            "class_tv": float((fake - true).abs().sum() / 2),
            "effective_classes": float(torch.special.entr(fake).sum().exp()),
        }
