"""Scores samples by the chosen metrics, which share the features of samples and real images."""

from collections.abc import Mapping, Sequence

import torch

from twoplayer.data.base import Data
from twoplayer.distributed import ranks
from twoplayer.metrics.base import Classes, Images, Meaning, Metric, Reference, Sampler


class Scoring:
    """Scores samples against the validation and the test split.

    All ranks call its methods together, and get the same numbers. `metrics` holds the metrics that
    can score these data; `reasons` says by name why the others cannot. `floors` holds, per number,
    the score of the validation split, taken as samples, against the test split, where that has a
    meaning. `real` holds the images of both splits, with what metrics have kept about them.
    `meaning` says what the classes of samples are, if they have any.
    """

    def __init__(self, metrics: Mapping[str, Metric], data: Data, device: torch.device, meaning: Meaning | None = None) -> None:
        self._device, self._meaning = device, meaning
        self.real: dict[Reference, Images] = {
            "validation": Images.real(data.splits.validation.images, device, data.splits.validation.labels),
            "test": Images.real(data.splits.test.images, device, data.splits.test.labels),
        }
        found = {
            name: metric.prepare(data, device) if metric.needs in (None, meaning) else f"the generator has no {metric.needs}"
            for name, metric in metrics.items()
        }
        self.reasons = {name: reason for name, reason in found.items() if reason is not None}
        self.metrics = {name: metric for name, metric in metrics.items() if name not in self.reasons}
        self.floors = self._compare(self.real["validation"], "test", {name: each for name, each in self.metrics.items() if each.has_floor})

    def score_images(self, generated: Images, reference: Reference) -> dict[str, float]:
        """All numbers by name, for given images against one reference split."""
        return self._compare(generated, reference, self.metrics)

    def score(self, sampler: Sampler, references: Sequence[Reference], classes: Classes | None = None) -> dict[Reference, dict[str, float]]:
        """All numbers by name, for the same samples against each reference split."""
        generated = Images(sampler, classes=classes, labelled=self._meaning == "labels")
        return {reference: self._compare(generated, reference, self.metrics) for reference in references}

    def _compare(self, generated: Images, reference: Reference, metrics: Mapping[str, Metric]) -> dict[str, float]:
        scores: dict[str, float] = {}
        for metric in metrics.values():
            scores |= metric.compare(generated, self.real[reference])
        # Ranks on different hardware may differ in the last digits, but must make the same choices.
        values = torch.tensor(list(scores.values()), dtype=torch.float64, device=self._device)
        ranks.broadcast_in_place([values] if scores else [])
        return dict(zip(scores, values.tolist(), strict=True))
