"""Soft and noisy labels (tip 6 of "How to train a GAN"; soft ones after Salimans et al., 2016, arXiv:1606.03498)."""

from typing import Annotated

import torch
from annotated_types import Ge, Le, Len
from omegaconf import DictConfig
from torch import Tensor

from twoplayer.tricks.base import Trick, refuse_without_soft_labels

Range = Annotated[list[Annotated[float, Ge(0), Le(2)]], Len(2, 2)]


class SoftLabels(Trick):
    """Each image's label is drawn anew from a range: those of real images are multiplied by it, those of fakes moved up by it."""

    def __init__(self, *, real: Range, fake: Range) -> None:
        super().__init__()
        self.real, self.fake = tuple(real), tuple(fake)

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Losses to which a soft label means nothing."""
        refuse_without_soft_labels("soft_labels", config)

    def targets(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Drawn for D's update."""
        return real * torch.empty_like(real).uniform_(*self.real), fake + torch.empty_like(fake).uniform_(*self.fake)
