"""The modes of Stacked MNIST that samples reach (Srivastava et al., 2017, arXiv:1705.07761)."""

import math
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from twoplayer.data.base import Data
from twoplayer.data.stacked_mnist import StackedMNIST
from twoplayer.metrics.base import Images, Metric
from twoplayer.metrics.features import load_features

RARE = 4_000
"""A mode counts as frequent if at least one sample in 4,000 is of it."""


class StackedModes(Metric):
    """Which of the 1,000 numbers the digits of samples form, by the classifier of MNIST.

    - `stacked_kl`: the Kullback-Leibler divergence of samples from equal shares of all modes. Its
      floor is that of as many stacks of real digits.
    - `modes`: the number of modes with at least one sample. Errors of the classifier inflate it.
    - `frequent_modes`: the number of modes with at least one sample in 4,000.
    """

    numbers = {"stacked_kl": "lower", "modes": "higher", "frequent_modes": "higher"}

    def __init__(self, *, num_samples: Annotated[int, Ge(1)]) -> None:
        self.num_samples = num_samples

    def prepare(self, data: Data, device: torch.device) -> str | None:
        if not isinstance(data, StackedMNIST):
            return "it counts the modes of data=stacked_mnist"
        self._extract = load_features("mnist").to(device)
        return None

    def protocol(self) -> dict[str, Any]:
        return {"num_samples": self.num_samples, "features_sha256": self._extract.sha256}

    def compare(self, generated: Images, real: Images) -> dict[str, float]:
        num = self.num_samples if generated.num is None else min(self.num_samples, generated.num)
        found = generated.keep(("stacked", num), lambda: torch.cat([self._numbers(chunk) for _, chunk in generated.chunks(num)]))
        counts = found.bincount(minlength=1000).double()
        shares = counts / num
        return {
            "stacked_kl": math.log(1000) - float(torch.special.entr(shares).sum()),
            "modes": int((counts > 0).sum()),
            "frequent_modes": int((counts >= max(1.0, num / RARE)).sum()),
        }

    @torch.no_grad()
    def _numbers(self, images: Tensor) -> Tensor:
        """The number (N) that the digits of images (N, 3, H, W) form."""
        digits = [self._extract.classifier.logits(self._extract(channel)).argmax(1) for channel in images.split(1, 1)]
        return 100 * digits[0] + 10 * digits[1] + digits[2]
