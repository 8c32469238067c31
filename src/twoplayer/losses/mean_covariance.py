"""McGAN (Mroueh, Sercu and Goel, 2017, arXiv:1702.08398).

It compares the means and the covariances of D's vectors along learned directions.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from omegaconf import DictConfig
from torch import Tensor

from twoplayer.distributed import ranks
from twoplayer.errors import ConfigurationError
from twoplayer.losses.sets import SetLoss
from twoplayer.models.base import Model, Side


class MeanCovariance(SetLoss):
    """The critic of a vector h is v'h + (U'h)'(V'h).

    The vector v has length 1; the `num_directions` columns of U and of V are orthonormal. D raises
    the critic's mean on real images above its mean on fakes; G lowers the difference. This is the
    paper's primal form, with covariances that are not centred.

    After each update of D, v, U and V take a step of length `rate` towards the largest difference,
    and are made orthonormal again (the QR retraction). So each batch is scored along directions
    learned from earlier batches: directions of the batch itself would fit its noise.
    """

    bounded_by = "mmd_gp"
    compares = False
    batchwise = False
    batchwise_penalties = False

    def __init__(self, *, num_directions: Annotated[int, Ge(1)], rate: Annotated[float, Gt(0), Le(1)]) -> None:
        super().__init__()
        self.num_directions, self.rate = num_directions, rate
        self.v: Tensor
        self.U: Tensor
        self.V: Tensor

    @classmethod
    def refuse(cls, config: DictConfig) -> None:
        super().refuse(config)
        if config.loss.num_directions > config.model.discriminator.num_outputs:
            raise ConfigurationError(
                f"loss.num_directions={config.loss.num_directions}: must be at most "
                f"model.discriminator.num_outputs={config.model.discriminator.num_outputs}"
            )

    def build(self, model: Model) -> None:
        """Random directions, with as many dimensions as D's vectors."""
        self.register_buffer("v", _normalized(torch.randn(model.num_outputs)))
        self.register_buffer("U", _orthonormal(torch.randn(model.num_outputs, self.num_directions)))
        self.register_buffer("V", _orthonormal(torch.randn(model.num_outputs, self.num_directions)))

    def discriminator(self, real: Side, fake: Side, real_target: Tensor, fake_target: Tensor) -> Tensor:
        """The critic's mean on fakes minus its mean on real images."""
        return self.critic(fake.logits, real, fake).mean() - self.critic(real.logits, real, fake).mean()

    def generator(self, fake: Side, real: Side | None, weights: Tensor) -> Tensor:
        """The negative critic."""
        return -(weights[:, 0] * self._along(fake.logits)).mean()

    def critic(self, vectors: Tensor, real: Side, fake: Side) -> Tensor:
        """One number per vector; it does not depend on the batch."""
        return self._along(vectors)

    @torch.no_grad()
    def update(self, real: Side, fake: Side) -> None:
        """One step of gradient ascent for v, U and V, from the moments of all ranks."""
        mean = ranks.mean(real.logits.mean(0) - fake.logits.mean(0))
        moment = ranks.mean(_second_moment(real.logits) - _second_moment(fake.logits))
        moment = moment / torch.linalg.matrix_norm(moment).clamp_min(1e-12)
        self.v.copy_(_normalized(self.v + self.rate * _normalized(mean)))
        u, v = self.U + self.rate * moment @ self.V, self.V + self.rate * moment.T @ self.U
        self.U.copy_(_orthonormal(u))
        self.V.copy_(_orthonormal(v))

    def _along(self, vectors: Tensor) -> Tensor:
        with torch.autocast(vectors.device.type, enabled=False):  # the costs are small differences of these
            return vectors @ self.v + ((vectors @ self.U) * (vectors @ self.V)).sum(1)


def _second_moment(vectors: Tensor) -> Tensor:
    return vectors.T @ vectors / len(vectors)


def _normalized(vector: Tensor) -> Tensor:
    return vector / torch.linalg.vector_norm(vector).clamp_min(1e-12)


def _orthonormal(columns: Tensor) -> Tensor:
    """The QR retraction: an orthonormal basis that keeps the signs of the columns."""
    basis, upper = torch.linalg.qr(columns)
    return basis * torch.where(upper.diagonal() < 0, -1.0, 1.0)
