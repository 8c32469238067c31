"""MMD GAN (Li et al., 2017, arXiv:1705.08584; Bińkowski et al., 2018, arXiv:1801.01401).

The maximum mean discrepancy of D's vectors.
"""

from typing import Annotated, Literal

import torch
from annotated_types import Gt, MinLen
from torch import Tensor

from twoplayer.losses.sets import SetLoss, anchors
from twoplayer.models.base import Side

Kernel = Literal["gaussian", "rational_quadratic"]


class MMD(SetLoss):
    """An unbiased estimate of the squared discrepancy; the kernel is summed over several scales."""

    bounded_by = "mmd_gp"

    def __init__(self, *, kernel: Kernel, scales: Annotated[list[Annotated[float, Gt(0)]], MinLen(1)]) -> None:
        super().__init__()
        self.kernel, self.scales = kernel, list(scales)

    def discriminator(self, real: Side, fake: Side, real_target: Tensor, fake_target: Tensor) -> Tensor:
        return -self._discrepancy(real.logits, fake.logits, torch.ones_like(fake_target[:, 0]))

    def generator(self, fake: Side, real: Side | None, weights: Tensor) -> Tensor:
        assert real is not None
        return self._discrepancy(real.logits, fake.logits, weights[:, 0])

    def critic(self, vectors: Tensor, real: Side, fake: Side) -> Tensor:
        """The witness function: mean similarity to the real vectors minus that to the fakes."""
        return self._similarity(vectors, anchors(real)).mean(1) - self._similarity(vectors, anchors(fake)).mean(1)

    def _discrepancy(self, real: Tensor, fake: Tensor, weights: Tensor) -> Tensor:
        among_fakes = weights[:, None] * weights * self._similarity(fake, fake)
        across = (weights * self._similarity(real, fake)).mean()
        return _mean_off_diagonal(self._similarity(real, real)) + _mean_off_diagonal(among_fakes) - 2 * across

    def _similarity(self, one: Tensor, other: Tensor) -> Tensor:
        with torch.autocast(one.device.type, enabled=False):  # the squared distances are small differences of these
            products = one @ other.T
        squared = (one.square().sum(1)[:, None] + other.square().sum(1) - 2 * products).clamp_min(0)
        if self.kernel == "gaussian":
            return sum((-squared / (2 * scale**2)).exp() for scale in self.scales)  # type: ignore[return-value]
        return sum((1 + squared / (2 * scale)) ** -scale for scale in self.scales)  # type: ignore[return-value]


def _mean_off_diagonal(matrix: Tensor) -> Tensor:
    return (matrix.sum() - matrix.diagonal().sum()) / (len(matrix) * (len(matrix) - 1))
