"""Latents on a sphere, where nearly all of a Gaussian in many dimensions lies anyway (White, 2016, arXiv:1609.04468)."""

import torch
from torch import Tensor

from twoplayer.tricks.base import Trick


class SphericalLatents(Trick):
    """Uniform on the sphere of radius sqrt(latent_size), the length that Gaussian latents have on average."""

    prior = "z * sqrt(latent_size) / |z|, uniform on the sphere of radius sqrt(latent_size)"

    def latents(self, latents: Tensor) -> Tensor:
        """Each at the same length."""
        return latents * (latents.shape[1] ** 0.5 / torch.linalg.vector_norm(latents, dim=1, keepdim=True))
