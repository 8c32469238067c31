"""Now and then D is told the wrong label (tip 6 of "How to train a GAN")."""

from typing import Annotated

import torch
from annotated_types import Gt, Le
from omegaconf import DictConfig
from torch import Tensor

from twoplayer.tricks.base import Trick, refuse_without_soft_labels


class LabelFlipping(Trick):
    """In D's update a random `share` of the labels of each side say the opposite."""

    def __init__(self, *, share: Annotated[float, Gt(0), Le(0.5)]) -> None:
        super().__init__()
        self.share = share

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Losses to which another label means nothing."""
        refuse_without_soft_labels("label_flipping", config)

    def targets(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Each label by itself."""
        return self._flip(real), self._flip(fake)

    def _flip(self, labels: Tensor) -> Tensor:
        return torch.where(torch.rand_like(labels) < self.share, 1 - labels, labels)
