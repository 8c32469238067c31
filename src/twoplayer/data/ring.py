"""Gaussians on a circle, the first test of mode collapse (Metz et al., 2017, arXiv:1611.02163)."""

import math

import torch
from torch import Tensor

from twoplayer.data.mixture import Mixture


class Ring(Mixture):
    """`num_classes` Gaussians on the circle of radius 1."""

    @property
    def centers(self) -> Tensor:
        """See `Mixture`."""
        angles = torch.arange(self.num_classes) * (2 * math.pi / self.num_classes)
        return torch.stack([angles.cos(), angles.sin()], 1)
