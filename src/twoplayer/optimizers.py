"""The optimizers of the players, with the numbers that a schedule may change as tensors."""

from collections.abc import Iterable
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt
from torch import nn

Decay = Annotated[float, Ge(0), Lt(1)]


def adam(
    parameters: Iterable[nn.Parameter],
    *,
    lr: Annotated[float, Gt(0)],
    beta1: Decay,
    beta2: Decay,
    eps: Annotated[float, Gt(0)],
) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba, 2015, arXiv:1412.6980), in one fused kernel."""
    betas = (torch.tensor(beta1), torch.tensor(beta2))
    return torch.optim.Adam(parameters, lr=torch.tensor(lr), betas=betas, eps=eps, fused=True)  # type: ignore[arg-type]


def sgd(
    parameters: Iterable[nn.Parameter],
    *,
    lr: Annotated[float, Gt(0)],
    momentum: Decay,
    weight_decay: Annotated[float, Ge(0)],
) -> torch.optim.Optimizer:
    """Stochastic gradient descent."""
    return torch.optim.SGD(parameters, lr=torch.tensor(lr), momentum=momentum, weight_decay=weight_decay, fused=True)


def rmsprop(
    parameters: Iterable[nn.Parameter],
    *,
    lr: Annotated[float, Gt(0)],
    alpha: Decay,
    eps: Annotated[float, Gt(0)],
    momentum: Decay,
    weight_decay: Annotated[float, Ge(0)],
) -> torch.optim.Optimizer:
    """RMSprop (Tieleman and Hinton, 2012), the choice of the first Wasserstein GAN."""
    return torch.optim.RMSprop(parameters, lr=torch.tensor(lr), alpha=alpha, eps=eps, momentum=momentum, weight_decay=weight_decay)
