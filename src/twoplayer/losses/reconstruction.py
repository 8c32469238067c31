"""The error of a reconstruction, as autoencoders have it: each fake against its own real image."""

from typing import Annotated, Literal

from annotated_types import Gt
from torch import Tensor

from twoplayer.losses.non_saturating import NonSaturating
from twoplayer.models.base import Side


class Reconstruction(NonSaturating):
    """The negative log-likelihood of the real image, without its constant, in nats per image.

    The fake is the mean of a normal distribution (`squared`) or the median of a Laplace
    distribution (`absolute`) of this `deviation` per pixel, in units of pixels in [-1, 1].

    A discriminator has no part in it. If there is one, it learns to tell both sides apart by
    cross-entropy; trick=[frozen_discriminator] saves the time for that.
    """

    compares = True
    restores = True
    needs_discriminator = False

    def __init__(self, *, error: Literal["squared", "absolute"], deviation: Annotated[float, Gt(0)]) -> None:
        super().__init__()
        self.error, self.deviation = error, deviation

    def generator(self, fake: Side, real: Side | None, weights: Tensor) -> Tensor:
        """The error before the tricks' view. A pack shares its weight."""
        assert real is not None
        weights = weights.repeat_interleave(len(fake.images) // len(weights))
        return (weights * self.of(fake.images, real.images)).mean()

    def of(self, images: Tensor, others: Tensor) -> Tensor:
        """The error of each image (N)."""
        errors = (images.float() - others.float()).flatten(1)
        if self.error == "squared":
            return errors.square().sum(1) / (2 * self.deviation**2)
        return errors.abs().sum(1) * (2**0.5 / self.deviation)
