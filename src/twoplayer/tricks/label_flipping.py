"""Occasional wrong labels for D (tip 6 of "How to train a GAN")."""

from typing import Annotated

import torch
from annotated_types import Gt, Le
from omegaconf import DictConfig
from torch import Tensor

from twoplayer.tricks.base import Trick, refuse_without_soft_labels


class LabelFlipping(Trick):
    """In D's update, replaces a random `share` of each side's labels by the other side's.

    These are the labels as other tricks have softened them.
    """

    order = 1  # after all tricks that soften labels

    def __init__(self, *, share: Annotated[float, Gt(0), Le(0.5)]) -> None:
        super().__init__()
        self.share = share

    @staticmethod
    def refuse(config: DictConfig) -> None:
        refuse_without_soft_labels("label_flipping", config)

    def targets(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Each label flips independently; both sides have equally many."""
        return self._flip(real, fake), self._flip(fake, real)

    def _flip(self, labels: Tensor, others: Tensor) -> Tensor:
        return torch.where(torch.rand_like(labels) < self.share, others, labels)
