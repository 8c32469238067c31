"""The players' optimizers. Numbers that a schedule may change are tensors."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from twoplayer.tricks.base import Player

Decay = Annotated[float, Ge(0), Lt(1)]


def numbers(optimizers: Mapping[Player, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Each player's optimizer numbers that a schedule may change, by name in the configuration."""
    found: dict[str, Tensor] = {}
    for player, optimizer in optimizers.items():
        for group in optimizer.param_groups:
            betas = dict(zip(("beta1", "beta2"), group.get("betas", ()), strict=False))
            found |= {f"optimizer.{player}.{name}": value for name, value in {"lr": group["lr"], **betas}.items()}
    return found


def read_on_host(optimizers: Iterable[torch.optim.Optimizer]) -> tuple[float, ...]:
    """The numbers that a step reads on the host: Adam's betas, in its fused form."""
    return tuple(float(beta) for optimizer in optimizers for group in optimizer.param_groups for beta in group.get("betas", ()))


def gradients_of(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """The gradients of the parameters.

    A parameter that has no part in the cost gets a zero gradient, so all ranks reduce equal shapes.
    """
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


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
    """RMSprop (Tieleman and Hinton, 2012), the optimizer of the first Wasserstein GAN."""
    return torch.optim.RMSprop(parameters, lr=torch.tensor(lr), alpha=alpha, eps=eps, momentum=momentum, weight_decay=weight_decay)


def optimistic_adam(
    parameters: Iterable[nn.Parameter],
    *,
    lr: Annotated[float, Gt(0)],
    beta1: Decay,
    beta2: Decay,
    eps: Annotated[float, Gt(0)],
) -> torch.optim.Optimizer:
    """Optimistic Adam (Daskalakis et al., 2018, arXiv:1711.00141, algorithm 1)."""
    return OptimisticAdam(parameters, torch.tensor(lr), (torch.tensor(beta1), torch.tensor(beta2)), eps)


class OptimisticAdam(torch.optim.Optimizer):
    """Twice Adam's step minus the previous step, which anticipates the other player's move."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: Tensor, betas: tuple[Tensor, Tensor], eps: float) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "capturable": False})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            gradients = [parameter.grad for parameter in parameters]
            for parameter in parameters:
                if not self.state[parameter]:
                    self.state[parameter] = {
                        "step": torch.zeros((), device=parameter.device),
                        **{name: torch.zeros_like(parameter) for name in ("mean", "square", "last")},
                    }
            states = [self.state[parameter] for parameter in parameters]
            steps, means, squares, lasts = ([state[name] for state in states] for name in ("step", "mean", "square", "last"))
            beta1, beta2 = (float(beta) for beta in group["betas"])
            torch._foreach_add_(steps, 1)
            torch._foreach_lerp_(means, gradients, 1 - beta1)
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
            for parameter, step, mean, square, last in zip(parameters, steps, means, squares, lasts, strict=True):
                new = group["lr"] * (mean / (1 - beta1**step)) / ((square / (1 - beta2**step)).sqrt() + group["eps"])
                parameter.sub_(2 * new - last)
                last.copy_(new)
