"""Latents uniform in a cube, the prior of the first GANs.

Tip 3 of "How to train a GAN" advises against it.
"""

from torch import Tensor

from twoplayer.tricks.base import Trick


class UniformLatents(Trick):
    """Uniform in [-1, 1]: each number is the quantile of a Gaussian one."""

    prior = "erf(z / sqrt(2)), uniform in [-1, 1]"

    def latents(self, latents: Tensor) -> Tensor:
        """2 Phi(z) - 1."""
        return (latents / 2**0.5).erf()
