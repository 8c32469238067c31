"""The Fréchet distance within each class: FID per class, or intra-FID (Miyato and Koyama, 2018)."""

import math

from twoplayer.metrics.base import Images
from twoplayer.metrics.fd import frechet_distance
from twoplayer.metrics.feature_metric import FeatureMetric


class ClassFD(FeatureMetric):
    """The mean over classes of the Fréchet distance between samples and real images of a class.

    Each class has only its share of the samples, so the floor is above that of `fd`. The class of a
    sample is the label that the generator was told. A class of a single image has no covariance:
    the number is then NaN.
    """

    numbers = {"class_fd": "lower"}
    needs = "labels"

    def compare(self, generated: Images, real: Images) -> dict[str, float]:
        sides = [(self.features(images), images) for images in (generated, real)]
        (fake, fake_labels), (true, true_labels) = ((found, images.classes(len(found))) for found, images in sides)
        present = fake_labels.unique().tolist()
        pairs = [(fake[fake_labels == number], true[true_labels == number]) for number in present]
        if any(min(len(one), len(other)) < 2 for one, other in pairs):
            return {"class_fd": math.nan}
        return {"class_fd": sum(frechet_distance(*pair) for pair in pairs) / len(pairs)}
