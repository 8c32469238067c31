"""How steep a critic is at some images: what gradient penalties are made of."""

import torch
from torch import Tensor

from twoplayer.models.base import Side


def slopes(critic: Tensor, images: Tensor) -> Tensor:
    """The gradient of each critic value by all that it saw, flattened: (len(critic), -1), itself differentiable.

    `critic` (N) comes from `images` (N, ...), or from packs of them, which then share a row.
    """
    (gradient,) = torch.autograd.grad(critic.sum(), images, create_graph=True)
    return gradient.reshape(len(critic), -1)


def squared_slope(critic: Tensor, images: Tensor) -> Tensor:
    """The squared Euclidean norm of each row of `slopes`: (len(critic))."""
    return slopes(critic, images).square().sum(1)


def one_per_logit(side: Side) -> Tensor:
    """Uniform random numbers in [0, 1), one for all images that a logit is of, shaped to be multiplied with the images: (N, 1, ...)."""
    num_packed = len(side.images) // len(side.logits)
    shares = torch.rand(len(side.logits), *[1] * (side.images.ndim - 1), device=side.images.device)
    return shares.repeat_interleave(num_packed, 0)
