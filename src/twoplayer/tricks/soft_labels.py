"""Soft and noisy labels (tip 6 of "How to train a GAN").

Soft labels are from Salimans et al. (2016, arXiv:1606.03498).
"""

from typing import Annotated

import torch
from annotated_types import Ge, Le, Len
from omegaconf import DictConfig
from torch import Tensor

from twoplayer.errors import ConfigurationError
from twoplayer.tricks.base import Trick, refuse_without_soft_labels

Range = Annotated[list[Annotated[float, Ge(0), Le(2)]], Len(2, 2)]


class SoftLabels(Trick):
    """Draws a number for each image from the range of its side.

    The labels of real images are multiplied by it; it is added to the labels of fakes.
    """

    def __init__(self, *, real: Range, fake: Range) -> None:
        super().__init__()
        self.real, self.fake = tuple(real), tuple(fake)

    @staticmethod
    def refuse(config: DictConfig) -> None:
        refuse_without_soft_labels("soft_labels", config)
        for side in ("real", "fake"):
            low, high = config.trick.soft_labels[side]
            if low > high:
                raise ConfigurationError(
                    f"trick.soft_labels.{side}=[{low},{high}]: the first number must not be greater than the second; set [{high},{low}]"
                )

    def targets(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        return real * torch.empty_like(real).uniform_(*self.real), fake + torch.empty_like(fake).uniform_(*self.fake)
