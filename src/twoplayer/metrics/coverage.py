"""Density and coverage (Naeem et al., 2020, arXiv:2002.09797), clipped against outliers."""

import torch
from torch import Tensor

from twoplayer.metrics.base import Images
from twoplayer.metrics.precision_recall import PrecisionRecall, squared_distances


class Coverage(PrecisionRecall):
    """How densely samples lie among real images, and how many real images they cover.

    - `density`: for each sample the number of balls around real images that hold it, divided by
      k, at most 1; the mean over samples. A ball extends to the k-th nearest neighbour, but no
      farther than the median ball: without these two limits one outlier counts more than all
      others, and bad samples score above 1.
    - `coverage`: the share of real images whose ball holds at least one sample.
    """

    numbers = {"density": "higher", "coverage": "higher"}

    def compare(self, generated: Images, real: Images) -> dict[str, float]:
        fake, true, radii = self.features(generated), self.features(real), self._radii(real)
        return {"density": clipped_density(fake, true, radii, self.num_neighbors), "coverage": reached(fake, true, radii)}


def clipped_density(fake: Tensor, real: Tensor, squared_radii: Tensor, num_neighbors: int) -> float:
    """The mean over samples (N, d) of the balls around real features (M, d) that hold them."""
    limits = squared_radii.clamp(max=squared_radii.median())
    held = [(rows <= limits).sum(1).double() for rows in squared_distances(fake, real)]
    return float((torch.cat(held) / num_neighbors).clamp(max=1).mean())


def reached(fake: Tensor, real: Tensor, squared_radii: Tensor) -> float:
    """The share of real features (M, d) whose ball holds at least one of the samples (N, d)."""
    inside = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for rows in squared_distances(fake, real):
        inside |= (rows <= squared_radii).any(0)
    return float(inside.double().mean())
