"""One Gaussian on a line: the figure of the first GAN paper (Goodfellow et al., 2014)."""

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from scipy.stats import gaussian_kde
from torch import Tensor

from twoplayer import plots
from twoplayer.data.mixture import Mixture


class Gaussian1D(Mixture):
    """`num_classes` Gaussians on a line, around `center` and 4 deviations apart."""

    def __init__(self, *, center: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.center = center

    @property
    def centers(self) -> Tensor:
        """See `Mixture`."""
        return self.center + (4 * self.deviation * (torch.arange(self.num_classes) - (self.num_classes - 1) / 2))[:, None]

    @property
    def limit(self) -> float:
        """See `Mixture`."""
        return max(float(self.centers.abs().max()), 1.0) + 5 * self.deviation

    def picture(self, samples: Tensor, columns: int, output: Callable[[Tensor], Tensor] | None) -> Image.Image:
        """The densities of real points and samples, D's output, and the output that is optimal."""
        places = torch.linspace(-self.limit, self.limit, 200)
        real = torch.stack([plots.normal_density(places, float(center), self.deviation) for center in self.centers]).mean(0)
        values = samples.flatten().cpu()
        spread = float(values.std())
        fake = torch.from_numpy(gaussian_kde(values.numpy())(places.numpy())) if spread > 0 else torch.zeros(len(places))
        return plots.densities(places, real, fake.float(), None if output is None else output(places[:, None].to(samples.device)).cpu())
