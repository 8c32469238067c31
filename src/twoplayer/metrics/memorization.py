"""How many samples are copies of training images (Meehan et al., 2020; van den Burg, 2021)."""

from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from twoplayer.data.base import Data, to_unit_range
from twoplayer.data.neighbors import nearest
from twoplayer.metrics.base import Images, Metric


class Memorization(Metric):
    """The share of samples that are nearer to a training image than that is to any other one.

    Distances are those of pixels. Two numbers, so that each can be read beside its control:
    `memorized` for samples, and `memorized_test` for the test split, which no generator has seen.
    There is no floor: the validation split may be a part of the training split.
    """

    numbers = {"memorized": "lower", "memorized_test": "lower"}
    has_floor = False

    def __init__(self, *, num_samples: Annotated[int, Ge(1)]) -> None:
        self.num_samples = num_samples

    def prepare(self, data: Data, device: torch.device) -> str | None:
        self._train, self._test, self._device = data.splits.train.images, data.splits.test.images, device
        self._control: float | None = None
        return None

    def protocol(self) -> dict[str, Any]:
        return {"num_samples": self.num_samples, "num_training_images": len(self._train)}

    def compare(self, generated: Images, real: Images) -> dict[str, float]:
        samples = torch.cat([chunk for _, chunk in generated.chunks(min(self.num_samples, generated.num or self.num_samples))])
        if self._control is None:
            chosen = torch.linspace(0, len(self._test) - 1, min(self.num_samples, len(self._test))).long()
            self._control = memorized(to_unit_range(self._test[chosen].to(self._device)), self._train)
        return {"memorized": memorized(samples, self._train), "memorized_test": self._control}


def memorized(samples: Tensor, train: Tensor) -> float:
    """The share of samples (N, ...) nearer to a stored training image than that to any other."""
    distances, found = nearest(samples, train)
    own, _ = nearest(to_unit_range(train[found.cpu()].to(samples.device)), train, found)
    return float((distances < own).double().mean())
