"""How often a conditional generator draws the class that it was told."""

from twoplayer.metrics.base import Images
from twoplayer.metrics.feature_metric import FeatureMetric


class LabelAccuracy(FeatureMetric):
    """The share of samples that the classifier of the data assigns to the label of the sample.

    For real images it is the accuracy of the classifier.
    """

    numbers = {"label_accuracy": "higher"}
    needs = "labels"

    def compare(self, generated: Images, real: Images) -> dict[str, float]:
        answers = self.answers(generated)
        return {"label_accuracy": float((answers == generated.classes(len(answers))).double().mean())}
