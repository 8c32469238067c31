"""The chosen metrics on one data set: real images are looked at once for all of them, and so is each set of samples."""

from collections.abc import Mapping, Sequence

import torch

from twoplayer.data.base import ImageData
from twoplayer.distributed import ranks
from twoplayer.metrics.base import Images, Metric, Reference, Sampler


class Scoring:
    """Scores samples against the validation and the test split. All ranks call its methods together, and get the same numbers.

    `reasons` says for which metrics, by name, the data have no score, and why; the others are in `metrics`.
    `floors` holds for each of their numbers the score of the validation split, taken as samples, against the test split.
    """

    def __init__(self, metrics: Mapping[str, Metric], data: ImageData, device: torch.device) -> None:
        self._device = device
        self._real: dict[Reference, Images] = {
            "validation": Images.real(data.splits.validation.images, device),
            "test": Images.real(data.splits.test.images, device),
        }
        found = {name: metric.prepare(data, device) for name, metric in metrics.items()}
        self.reasons = {name: reason for name, reason in found.items() if reason is not None}
        self.metrics = {name: metric for name, metric in metrics.items() if name not in self.reasons}
        self.floors = self._compare(self._real["validation"], "test")

    def score(self, sampler: Sampler, references: Sequence[Reference]) -> dict[Reference, dict[str, float]]:
        """All numbers by name, of the same samples against each reference split."""
        generated = Images(sampler)
        return {reference: self._compare(generated, reference) for reference in references}

    def _compare(self, generated: Images, reference: Reference) -> dict[str, float]:
        scores: dict[str, float] = {}
        for metric in self.metrics.values():
            scores |= metric.compare(generated, self._real[reference])
        # What is chosen by a score is chosen by all ranks alike, whatever the last digits are on their hardware.
        values = torch.tensor(list(scores.values()), dtype=torch.float64, device=self._device)
        ranks.broadcast_in_place([values] if scores else [])
        return dict(zip(scores, values.tolist(), strict=True))
