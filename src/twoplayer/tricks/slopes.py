"""How steep a critic is at some images: what gradient penalties are made of."""

import torch
from torch import Tensor


def slopes(critic: Tensor, images: Tensor) -> Tensor:
    """The gradient of each critic value by all that it saw, flattened: (len(critic), -1), itself differentiable.

    `critic` (N) comes from `images` (N, ...), or from packs of them, which then share a row.
    """
    (gradient,) = torch.autograd.grad(critic.sum(), images, create_graph=True)
    return gradient.reshape(len(critic), -1)


def squared_slope(critic: Tensor, images: Tensor) -> Tensor:
    """The squared Euclidean norm of each row of `slopes`: (len(critic))."""
    return slopes(critic, images).square().sum(1)
