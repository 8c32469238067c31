"""Gaussians on a square grid (Dumoulin et al., 2017, arXiv:1606.00704)."""

import math
from typing import Annotated, Any

import torch
from annotated_types import Ge
from omegaconf import DictConfig
from torch import Tensor

from twoplayer.data.mixture import Mixture
from twoplayer.errors import ConfigurationError

APART = 2.0
"""The distance of neighbouring centers."""


class Grid(Mixture):
    """`num_classes` Gaussians, a square number, with neighbours 2 apart."""

    def __init__(self, *, num_classes: Annotated[int, Ge(4)], **settings: Any) -> None:
        super().__init__(num_classes=num_classes, **settings)

    @staticmethod
    def refuse(config: DictConfig) -> None:
        """Refuse a number of Gaussians that is no square."""
        Mixture.refuse(config)
        num, side = config.data.num_classes, math.isqrt(config.data.num_classes)
        if side**2 != num:
            raise ConfigurationError(f"data.num_classes={num}: the Gaussians form a square; set data.num_classes={side**2}")

    @property
    def centers(self) -> Tensor:
        """See `Mixture`."""
        side = math.isqrt(self.num_classes)
        axis = APART * (torch.arange(side) - (side - 1) / 2)
        return torch.cartesian_prod(axis, axis)
