"""The modes of a mixture of Gaussians that samples reach (Srivastava et al., 2017)."""

import math
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from twoplayer.data.base import Data
from twoplayer.data.mixture import Mixture
from twoplayer.metrics.base import Images, Metric

DEVIATIONS = 3
"""A sample within so many standard deviations of a center is of high quality."""


class Modes(Metric):
    """Modes, samples of high quality, and how evenly samples are spread over the modes.

    - `mode_error`: the Kullback-Leibler divergence of samples from real points over the modes and
      one more place, all samples that are not of high quality. So it sees both faults.
    - `modes`: the number of modes with at least one sample of high quality.
    - `high_quality`: the share of samples within three standard deviations of a center.
    - `reverse_kl`: the divergence of samples from equal shares, each sample counted for its nearest
      mode, as in the published tables.
    """

    numbers = {"mode_error": "lower", "modes": "higher", "high_quality": "higher", "reverse_kl": "lower"}

    def __init__(self, *, num_samples: Annotated[int, Ge(1)]) -> None:
        self.num_samples = num_samples

    def prepare(self, data: Data, device: torch.device) -> str | None:
        if not isinstance(data, Mixture):
            return "modes can be counted only where they are known, as in data=ring"
        self._centers, self._deviation = data.centers.to(device), data.deviation
        return None

    def protocol(self) -> dict[str, Any]:
        return {"num_samples": self.num_samples, "modes": len(self._centers), "deviation": self._deviation}

    def compare(self, generated: Images, real: Images) -> dict[str, float]:
        num = self.num_samples if generated.num is None else min(self.num_samples, generated.num)
        return mode_scores(torch.cat([chunk for _, chunk in generated.chunks(num)]), self._centers, self._deviation)


def mode_scores(samples: Tensor, centers: Tensor, deviation: float) -> dict[str, float]:
    """The numbers of `Modes` for samples (N, D) and the centers (K, D) of equal Gaussians."""
    num, (modes, size) = len(samples), centers.shape
    distances, nearest = torch.cdist(samples.double(), centers.double()).min(1)
    good = distances <= DEVIATIONS * deviation
    good_counts, counts = nearest[good].bincount(minlength=modes).double(), nearest.bincount(minlength=modes).double()
    inside = float(
        torch.special.gammainc(torch.tensor(size / 2, dtype=torch.float64), torch.tensor(DEVIATIONS**2 / 2, dtype=torch.float64))
    )
    expected = torch.tensor([*[inside / modes] * modes, 1 - inside], dtype=torch.float64, device=samples.device)
    found = torch.cat([good_counts, (num - good_counts.sum())[None]]) / num
    return {
        "mode_error": _divergence(found, expected),
        "modes": int((good_counts > 0).sum()),
        "high_quality": float(good.double().mean()),
        "reverse_kl": _divergence(counts / num, torch.full_like(counts, 1 / modes)),
    }


def _divergence(shares: Tensor, expected: Tensor) -> float:
    """The Kullback-Leibler divergence of two distributions over the same places."""
    value = float((torch.special.xlogy(shares, shares) - torch.special.xlogy(shares, expected)).sum())
    return value if math.isfinite(value) else math.inf
