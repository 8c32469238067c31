"""Latents on a sphere (White, 2016, arXiv:1609.04468).

In many dimensions nearly all Gaussian vectors are close to it.
"""

import torch
from torch import Tensor

from twoplayer.tricks.base import Trick


class SphericalLatents(Trick):
    """Uniform on the sphere of radius sqrt(latent_size), the mean length of Gaussian latents."""

    prior = "z * sqrt(latent_size) / |z|, uniform on the sphere of radius sqrt(latent_size)"

    def latents(self, latents: Tensor) -> Tensor:
        return latents * (latents.shape[1] ** 0.5 / torch.linalg.vector_norm(latents, dim=1, keepdim=True))
