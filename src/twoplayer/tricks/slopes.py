"""The slopes of a critic at images, from which gradient penalties are computed."""

import torch
from torch import Tensor

from twoplayer.models.base import Side


def slopes(critic: Tensor, images: Tensor) -> Tensor:
    """The differentiable gradient of each critic value by its images: (len(critic), -1).

    `critic` (N) comes from `images` (N, ...), or from packs of them, which then share a row.
    """
    (gradient,) = torch.autograd.grad(critic.sum(), images, create_graph=True)
    return gradient.reshape(len(critic), -1)


def squared_slope(critic: Tensor, images: Tensor) -> Tensor:
    """The squared Euclidean norm of each row of `slopes`: (len(critic))."""
    return slopes(critic, images).square().sum(1)


def one_per_logit(side: Side) -> Tensor:
    """Uniform random numbers in [0, 1), shaped (N, 1, ...) to multiply the side's images.

    All images of one logit get the same number.
    """
    num_packed = len(side.images) // len(side.logits)
    shares = torch.rand(len(side.logits), *[1] * (side.images.ndim - 1), device=side.images.device)
    return shares.repeat_interleave(num_packed, 0)
