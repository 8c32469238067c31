"""A classifier trained on samples, tested on real images (Ravuri and Vinyals, 2019; GAN-train)."""

from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import cross_entropy

from twoplayer import pictures, randomness
from twoplayer.data.base import Batches, Split, to_unit_range
from twoplayer.metrics.base import Images
from twoplayer.metrics.feature_metric import FeatureMetric
from twoplayer.metrics.features import Classifier


class TrainOnFake(FeatureMetric):
    """The accuracy on real images of a classifier that was trained on samples.

    The labels of samples are those that G was told, or else the answers of the classifier of the
    data. The ceiling is the accuracy after training on as many real images with such answers.
    Missing classes and missing variety both lower it. It takes `iterations` steps.
    """

    numbers = {"train_on_fake": "higher"}

    def __init__(self, *, num_samples: Annotated[int, Ge(2)], iterations: Annotated[int, Ge(1)], batch_size: Annotated[int, Ge(2)]) -> None:
        super().__init__(num_samples=num_samples)
        self.iterations, self.batch_size = iterations, batch_size

    def protocol(self) -> dict[str, Any]:
        return {**super().protocol(), "training": f"{self.iterations} iterations, batches of {self.batch_size}"}

    def compare(self, generated: Images, real: Images) -> dict[str, float]:
        num = self.num_samples if generated.num is None else min(self.num_samples, generated.num)
        samples = torch.cat([pictures.to_uint8(chunk) for _, chunk in generated.chunks(num)])
        labels = generated.classes(num) if generated.stored is None and generated.labelled else self.answers(generated)[:num]
        key = ("train_on_fake", num, self.iterations, self.batch_size)
        classifier = generated.keep(key, lambda: self._trained(samples, labels.cpu()))
        assert real.num is not None
        right = 0
        with torch.no_grad():
            truth = real.classes(real.num).cpu()
            for place, chunk in real.chunks(real.num):
                right += int((classifier(chunk.cpu()).argmax(1) == truth[place]).sum())
        return {"train_on_fake": right / real.num}

    def _trained(self, samples: Tensor, labels: Tensor) -> Classifier:
        with randomness.aside(torch.device("cpu")), torch.enable_grad():
            randomness.restart(0, "train on fake")
            classifier = Classifier(self._extract.takes._replace(channels=samples.shape[1], image_size=samples.shape[2]))
            optimizer = torch.optim.AdamW(classifier.parameters(), lr=2e-3, weight_decay=1e-2, fused=True)
            batches = Batches(Split(samples, labels), self.batch_size, 0, torch.device("cpu"), place="train on fake")
            for iteration in range(self.iterations):
                images, truth = batches.drawn(iteration)
                optimizer.zero_grad()
                cross_entropy(classifier(to_unit_range(images)), truth).backward()
                optimizer.step()
        return classifier.eval()
