"""Every loss against its formula, written out anew in plain Python, and the gradients that follow from it."""

import math

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor

from conftest import choices, small
from twoplayer.losses.base import Loss
from twoplayer.models.base import Side

REAL, FAKE = [0.3, -1.2, 2.5], [-0.7, 0.4, 1.9]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


DISCRIMINATOR = {
    "non_saturating": lambda r, f: -mean([math.log(sigmoid(x)) for x in r]) - mean([math.log(1 - sigmoid(x)) for x in f]),
    "minimax": lambda r, f: -mean([math.log(sigmoid(x)) for x in r]) - mean([math.log(1 - sigmoid(x)) for x in f]),
    "least_squares": lambda r, f: mean([(x - 1) ** 2 / 2 for x in r]) + mean([x**2 / 2 for x in f]),
    "hinge": lambda r, f: mean([max(0, 1 - x) for x in r]) + mean([max(0, 1 + x) for x in f]),
    "wasserstein": lambda r, f: mean(f) - mean(r),
    "relativistic": lambda r, f: -mean([math.log(sigmoid(x - y)) for x, y in zip(r, f, strict=True)]),
}
GENERATOR = {
    "non_saturating": lambda r, f: -mean([math.log(sigmoid(x)) for x in f]),
    "minimax": lambda r, f: mean([math.log(1 - sigmoid(x)) for x in f]),
    "least_squares": lambda r, f: mean([(x - 1) ** 2 / 2 for x in f]),
    "hinge": lambda r, f: -mean(f),
    "wasserstein": lambda r, f: -mean(f),
    "relativistic": lambda r, f: -mean([math.log(sigmoid(y - x)) for x, y in zip(r, f, strict=True)]),
}


def side(logits: Tensor) -> Side:
    return Side(torch.zeros(3, 1, 4, 4), torch.zeros(3), None, logits, torch.zeros(3, 2))


def loss_named(name: str) -> Loss:
    loss: Loss = instantiate(small(f"loss={name}").loss)
    return loss


@pytest.mark.parametrize("name", choices("loss"))
def test_costs_are_those_of_the_paper(name: str) -> None:
    loss, real, fake = loss_named(name), side(torch.tensor(REAL)), side(torch.tensor(FAKE))
    cost = loss.discriminator(real, fake, torch.ones(3), torch.zeros(3))
    assert cost.item() == pytest.approx(DISCRIMINATOR[name](REAL, FAKE), abs=1e-6)
    assert loss.generator(fake, real, torch.ones(3)).item() == pytest.approx(GENERATOR[name](REAL, FAKE), abs=1e-6)


@pytest.mark.parametrize("name", choices("loss"))
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_gradients_are_those_of_the_formula(name: str, player: str) -> None:
    real, fake = torch.tensor(REAL, requires_grad=True), torch.tensor(FAKE, requires_grad=True)
    loss = loss_named(name)
    if player == "discriminator":
        cost, formula = loss.discriminator(side(real), side(fake), torch.ones(3), torch.zeros(3)), DISCRIMINATOR[name]
    else:
        cost, formula = loss.generator(side(fake), side(real), torch.ones(3)), GENERATOR[name]
    cost.backward()
    step = 1e-5
    for index in range(3):
        for logits, values in ((real, REAL), (fake, FAKE)):
            up, down = list(values), list(values)
            up[index] += step
            down[index] -= step
            pairs = [(up, FAKE), (down, FAKE)] if values is REAL else [(REAL, up), (REAL, down)]
            numeric = (formula(*pairs[0]) - formula(*pairs[1])) / (2 * step)
            analytic = 0.0 if logits.grad is None else logits.grad[index].item()
            assert analytic == pytest.approx(numeric, abs=1e-4)


def test_the_non_saturating_gradient_is_larger_where_samples_are_bad() -> None:
    gradients = {}
    for name in ("non_saturating", "minimax"):
        logits = torch.full((3,), -8.0, requires_grad=True)
        loss_named(name).generator(side(logits), None, torch.ones(3)).backward()
        assert logits.grad is not None
        gradients[name] = logits.grad.abs().mean().item()
    assert gradients["non_saturating"] > 1000 * gradients["minimax"]


def test_extreme_logits_stay_finite() -> None:
    for name in ("non_saturating", "minimax", "relativistic"):
        logits = torch.tensor([-1e4, 0.0, 1e4], requires_grad=True)
        loss = loss_named(name)
        cost = loss.discriminator(side(logits), side(-logits), torch.ones(3), torch.zeros(3)) + loss.generator(
            side(logits), side(-logits), torch.ones(3)
        )
        cost.backward()
        assert cost.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", [name for name in choices("loss") if loss_named(name).soft_labels])
def test_soft_labels_weigh_both_answers(name: str) -> None:
    loss, real, fake = loss_named(name), side(torch.tensor(REAL)), side(torch.tensor(FAKE))
    hard = loss.discriminator(real, fake, torch.ones(3), torch.zeros(3))
    flipped = loss.discriminator(real, fake, torch.zeros(3), torch.ones(3))
    both = loss.discriminator(real, fake, torch.full((3,), 0.7), torch.full((3,), 0.3))
    assert both.item() == pytest.approx((0.7 * hard + 0.3 * flipped).item(), abs=1e-6)


def test_weights_choose_among_fakes() -> None:
    loss, fake = loss_named("non_saturating"), side(torch.tensor(FAKE))
    alone = loss.generator(fake, None, torch.tensor([3.0, 0.0, 0.0]))
    assert alone.item() == pytest.approx(-math.log(sigmoid(FAKE[0])), abs=1e-6)
