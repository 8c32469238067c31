"""Every loss against its formula in plain Python, and the gradients that follow from it."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from pytorch_lightning import Callback
from torch import Tensor

from helpers.games import LOSS_SETTINGS, LOSSES, choices, composed, fit, small
from twoplayer.errors import ConfigurationError
from twoplayer.losses.base import Loss
from twoplayer.losses.sets import SetLoss
from twoplayer.models.base import Side
from twoplayer.tricks.slopes import slopes

REAL, FAKE = [0.3, -1.2, 2.5], [-0.7, 0.4, 1.9]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def probability(x: float, real: list[float], fake: list[float]) -> float:
    """Of a logit among those of both sides."""
    return math.exp(x) / sum(map(math.exp, [*real, *fake]))


DISCRIMINATOR = {
    "non_saturating": lambda r, f: -mean([math.log(sigmoid(x)) for x in r]) - mean([math.log(1 - sigmoid(x)) for x in f]),
    "minimax": lambda r, f: -mean([math.log(sigmoid(x)) for x in r]) - mean([math.log(1 - sigmoid(x)) for x in f]),
    "least_squares": lambda r, f: mean([(x - 1) ** 2 / 2 for x in r]) + mean([x**2 / 2 for x in f]),
    "hinge": lambda r, f: mean([max(0, 1 - x) for x in r]) + mean([max(0, 1 + x) for x in f]),
    "wasserstein": lambda r, f: mean(f) - mean(r),
    "relativistic": lambda r, f: -mean([math.log(sigmoid(x - y)) for x, y in zip(r, f, strict=True)]),
    "relativistic_average": lambda r, f: (
        -mean([math.log(sigmoid(x - mean(f))) for x in r]) - mean([math.log(1 - sigmoid(y - mean(r))) for y in f])
    ),
    "maximum_likelihood": lambda r, f: -mean([math.log(sigmoid(x)) for x in r]) - mean([math.log(1 - sigmoid(x)) for x in f]),
    "boundary_seeking": lambda r, f: -mean([math.log(sigmoid(x)) for x in r]) - mean([math.log(1 - sigmoid(x)) for x in f]),
    "energy": lambda r, f: -mean(r) + mean([max(0, 10 + x) for x in f]),
    "margin_adaptation": lambda r, f: -mean(r) + mean([max(0, 10 + x) for x in f]),
    "boundary_equilibrium": lambda r, f: -mean(r),  # the balance begins at 0
    "softmax": lambda r, f: -mean([math.log(probability(x, r, f)) for x in r]) - math.log(len(r)),
    "fisher": lambda r, f: mean(f) - mean(r) + 1e-3 / 2 * ((mean([x * x for x in r]) + mean([x * x for x in f])) / 2 - 1) ** 2,
}
GENERATOR = {
    "non_saturating": lambda r, f: -mean([math.log(sigmoid(x)) for x in f]),
    "minimax": lambda r, f: mean([math.log(1 - sigmoid(x)) for x in f]),
    "least_squares": lambda r, f: mean([(x - 1) ** 2 / 2 for x in f]),
    "hinge": lambda r, f: -mean(f),
    "wasserstein": lambda r, f: -mean(f),
    "relativistic": lambda r, f: -mean([math.log(sigmoid(y - x)) for x, y in zip(r, f, strict=True)]),
    "relativistic_average": lambda r, f: (
        -mean([math.log(sigmoid(y - mean(r))) for y in f]) - mean([math.log(1 - sigmoid(x - mean(f))) for x in r])
    ),
    "maximum_likelihood": lambda r, f: -mean([sigmoid(x) / (1 - sigmoid(x)) for x in f]),
    "boundary_seeking": lambda r, f: mean([(math.log(sigmoid(x)) - math.log(1 - sigmoid(x))) ** 2 / 2 for x in f]),
    "energy": lambda r, f: -mean(f),
    "margin_adaptation": lambda r, f: -mean(f),
    "boundary_equilibrium": lambda r, f: -mean(f),
    "softmax": lambda r, f: -mean([math.log(probability(x, r, f)) for x in [*r, *f]]) - math.log(len(r)),
    "fisher": lambda r, f: -mean(f),
}
SETS = ["cramer", "mean_covariance", "mmd"]  # of vectors; tested below
IMAGES = ["moment_matching"]  # of images; tested below
RESTORING = ["reconstruction", "own_costs"]  # without an adversary: in test_encoders.py


def side(logits: Tensor) -> Side:
    return Side(torch.zeros(3, 1, 4, 4), torch.zeros(3), None, None, logits, torch.zeros(3, 2))


def loss_named(name: str) -> Loss:
    return built(f"loss={name}", *LOSS_SETTINGS.get(name, []))


def built(*settings: str) -> Any:
    """A loss that knows its model."""
    config = small(*settings)
    loss = instantiate(config.loss)
    loss.build(instantiate(config.model))
    return loss


def set_loss(name: str) -> SetLoss:
    loss = loss_named(name)
    assert isinstance(loss, SetLoss)
    return loss


@pytest.mark.parametrize("name", DISCRIMINATOR)
def test_costs_are_those_of_the_paper(name: str) -> None:
    loss, real, fake = loss_named(name), side(torch.tensor(REAL)), side(torch.tensor(FAKE))
    cost = loss.discriminator(real, fake, torch.ones(3), torch.zeros(3))
    assert cost.item() == pytest.approx(DISCRIMINATOR[name](REAL, FAKE), abs=1e-6)
    assert loss.generator(fake, real, torch.ones(3)).item() == pytest.approx(GENERATOR[name](REAL, FAKE), abs=1e-6)


@pytest.mark.parametrize("name", DISCRIMINATOR)
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
    for name in ("non_saturating", "minimax", "relativistic", "softmax"):
        logits = torch.tensor([-1e4, 0.0, 1e4], requires_grad=True)
        loss = loss_named(name)
        cost = loss.discriminator(side(logits), side(-logits), torch.ones(3), torch.zeros(3)) + loss.generator(
            side(logits), side(-logits), torch.ones(3)
        )
        cost.backward()
        assert cost.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", [name for name in LOSSES if loss_named(name).soft_labels])
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


def test_a_softmax_that_is_undecided_costs_log_2_and_leaves_out_fakes_without_weight() -> None:
    loss, zeros = loss_named("softmax"), side(torch.zeros(3))
    assert loss.discriminator(zeros, zeros, torch.ones(3), torch.zeros(3)).item() == pytest.approx(math.log(2))
    assert loss.generator(zeros, zeros, torch.ones(3)).item() == pytest.approx(math.log(2))
    fake, weights = torch.tensor(FAKE, requires_grad=True), torch.tensor([1.5, 1.5, 0.0])
    loss.generator(side(fake), side(torch.tensor(REAL)), weights).backward()
    assert fake.grad is not None
    assert fake.grad[2] == 0
    assert fake.grad[:2].abs().min() > 0


def test_every_loss_has_its_formula_here() -> None:
    assert sorted([*DISCRIMINATOR, *SETS, *IMAGES, *RESTORING]) == choices("loss"), (
        "a new loss: write its formula in plain Python into DISCRIMINATOR and GENERATOR"
    )
    assert set(GENERATOR) == set(DISCRIMINATOR)


VECTORS = torch.tensor([[0.3, -1.0], [1.2, 0.5], [-0.4, 2.0]]), torch.tensor([[0.0, 0.7], [2.0, -0.3], [-1.5, 0.2]])


def distance(one: Tensor, other: Tensor) -> float:
    return math.dist(one.tolist(), other.tolist())


def test_mmd_is_the_unbiased_estimate() -> None:
    real, fake = VECTORS
    scales = (0.2, 0.5, 1, 2, 5)

    def kernel(x: Tensor, y: Tensor) -> float:
        return sum((1 + distance(x, y) ** 2 / (2 * scale)) ** -scale for scale in scales)

    pairs = [(i, j) for i in range(3) for j in range(3)]
    within = [mean([kernel(side[i], side[j]) for i, j in pairs if i != j]) for side in (real, fake)]
    expected = sum(within) - 2 * mean([kernel(real[i], fake[j]) for i, j in pairs])
    loss = set_loss("mmd")
    assert loss.generator(side(fake), side(real), torch.ones(3, 2)).item() == pytest.approx(expected, abs=1e-5)
    assert loss.discriminator(side(real), side(fake), torch.ones(3, 2), torch.zeros(3, 2)).item() == pytest.approx(-expected, abs=1e-5)
    witness = [mean([kernel(x, r) for r in real]) - mean([kernel(x, f) for f in fake]) for x in real]
    assert loss.critic(real, side(real), side(fake)).tolist() == pytest.approx(witness, abs=1e-5)


def test_moment_matching_is_the_discrepancy_of_pixels_and_leaves_d_out() -> None:
    loss, generator = built("loss=moment_matching", "loss.scales=[2,5]"), torch.Generator().manual_seed(0)
    real, fake = (torch.randn(3, 1, 4, 4, generator=generator) for _ in range(2))

    def kernel(x: Tensor, y: Tensor) -> float:
        return sum(math.exp(-(distance(x.flatten(), y.flatten()) ** 2) / (2 * scale**2)) for scale in (2, 5))

    pairs = [(i, j) for i in range(3) for j in range(3)]
    within = [mean([kernel(side[i], side[j]) for i, j in pairs if i != j]) for side in (real, fake)]
    expected = sum(within) - 2 * mean([kernel(real[i], fake[j]) for i, j in pairs])
    fake.requires_grad_()
    logits = torch.tensor(FAKE, requires_grad=True)
    sides = [Side(images, torch.zeros(3), None, None, logits, torch.zeros(3, 2)) for images in (fake, real)]
    cost = loss.generator(*sides, torch.ones(3))
    assert cost.item() == pytest.approx(expected, abs=1e-5)
    cost.backward()
    assert logits.grad is None
    assert fake.grad is not None
    assert fake.grad.abs().sum() > 0
    judged = loss.discriminator(side(torch.tensor(REAL)), side(torch.tensor(FAKE)), torch.ones(3), torch.zeros(3))
    assert judged.item() == pytest.approx(DISCRIMINATOR["non_saturating"](REAL, FAKE), abs=1e-6)


def test_cramer_is_the_energy_distance() -> None:
    real, fake = VECTORS
    pairs = [(i, j) for i in range(3) for j in range(3)]
    across = mean([distance(real[i], fake[j]) for i, j in pairs])
    among_fakes = mean([distance(fake[i], fake[j]) for i, j in pairs if i != j])
    loss = loss_named("cramer")
    assert loss.generator(side(fake), side(real), torch.ones(3, 2)).item() == pytest.approx(2 * across - among_fakes, abs=1e-5)
    norms = [mean([distance(x, torch.zeros(2)) for x in vectors]) for vectors in (real, fake)]
    expected = (among_fakes - norms[1]) - (across - norms[0])
    assert loss.discriminator(side(real), side(fake), torch.ones(3, 2), torch.zeros(3, 2)).item() == pytest.approx(expected, abs=1e-5)


def test_mean_covariance_is_the_papers_primal_form() -> None:
    real, fake = VECTORS
    loss = built("loss=mean_covariance", "model.discriminator.num_outputs=2", "loss.num_directions=1")
    v, u, w = loss.v.tolist(), loss.U[:, 0].tolist(), loss.V[:, 0].tolist()

    def critic(h: list[float]) -> float:
        along = [sum(a * b for a, b in zip(h, direction, strict=True)) for direction in (v, u, w)]
        return along[0] + along[1] * along[2]

    on_real, on_fake = (mean([critic(row) for row in vectors.tolist()]) for vectors in (real, fake))
    ones = torch.ones(3, 2)
    assert loss.discriminator(side(real), side(fake), ones, torch.zeros(3, 2)).item() == pytest.approx(on_fake - on_real, abs=1e-5)
    assert loss.generator(side(fake), None, ones).item() == pytest.approx(-on_fake, abs=1e-5)


def test_mean_covariance_is_in_float32_under_autocast() -> None:
    real, fake = (side(torch.randn(3, 16)) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        cost = loss_named("mean_covariance").discriminator(real, fake, torch.ones(3, 16), torch.zeros(3, 16))
    assert cost.dtype == torch.float32


def test_the_directions_of_mean_covariance_are_learned_and_score_what_they_have_not_seen() -> None:
    loss = built("loss=mean_covariance", "model.discriminator.num_outputs=6", "loss.num_directions=2")
    scale = torch.tensor([3.0, 1.0, 1.0, 1.0, 1.0, 0.2])  # of the real vectors; fakes have 1 everywhere
    generator = torch.Generator().manual_seed(0)

    def draw(scale: Tensor) -> Side:
        return side(scale * torch.randn(64, 6, generator=generator))

    def score(real: Side, fake: Side) -> float:
        return -loss.discriminator(real, fake, torch.ones(64, 6), torch.zeros(64, 6)).item()

    ones = torch.ones(6)
    for _ in range(200):
        loss.update(draw(scale), draw(ones))
        for basis in (loss.U, loss.V):
            assert torch.allclose(basis.T @ basis, torch.eye(2), atol=1e-5)
    assert float(loss.v.norm()) == pytest.approx(1, abs=1e-5)
    exact = torch.tensor([8.0, 0.0, 0.0, 0.0, 0.0, -0.96]).diag()  # the difference of the second moments
    assert 7.5 < float((loss.U.T @ exact @ loss.V).diagonal().sum()) < 8.97  # its largest singular value, and often the second
    different = mean([score(draw(scale), draw(ones)) for _ in range(50)])
    alike = mean([score(draw(scale), draw(scale)) for _ in range(50)])
    assert different > 7
    assert abs(alike) < 1  # two halves of real images: no difference, though each has its own noise


@pytest.mark.parametrize("name", SETS)
def test_a_slope_at_fakes_counts_each_fake_once(name: str) -> None:
    loss, images = set_loss(name), torch.randn(5, 3, requires_grad=True)
    judge = torch.nn.Linear(3, 16, bias=False)
    fake, real = (Side(batch, torch.zeros(5), None, None, judge(batch), batch) for batch in (images, torch.randn(5, 3)))
    constants = fake._replace(logits=fake.logits.detach().clone(), images=images.detach())
    found, expected = (slopes(loss.critic(fake.logits, real, anchored), images) for anchored in (fake, constants))
    assert torch.allclose(found, expected, atol=1e-6)


def test_d_learns_through_the_anchors_of_its_witness_where_they_are_not_differentiated_by() -> None:
    loss, judge = set_loss("mmd"), torch.nn.Linear(3, 16, bias=False)
    real, fake = (Side(batch, torch.zeros(4), None, None, judge(batch), batch) for batch in (torch.randn(4, 3), torch.randn(4, 3)))
    loss.critic(torch.randn(4, 16), real, fake).sum().backward()
    assert judge.weight.grad is not None
    assert judge.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", SETS)
def test_sets_that_are_the_same_have_a_gradient_that_is_finite(name: str) -> None:
    vectors = torch.randn(4, 16).requires_grad_()
    loss = loss_named(name)
    loss.discriminator(side(vectors), side(vectors.detach().clone()), torch.ones(4, 16), torch.zeros(4, 16)).backward()
    assert vectors.grad is not None
    assert vectors.grad.isfinite().all()


MAGAN = ["loss=margin_adaptation", "loss.every_images=6", "model.discriminator.autoencoder=true"]


def test_the_margin_follows_the_energy_of_real_images_down() -> None:
    loss = instantiate(small(*MAGAN).loss)
    real, fake = side(torch.tensor([-4.0, -5.0, -6.0])), side(torch.tensor([-7.0, -7.0, -7.0]))
    for _ in range(3):
        loss.update(real, fake)
        assert loss.margin == 10  # the first look has no other to compare with: G may still gain
    loss.update(real, fake)
    assert loss.margin == 5
    better = side(torch.tensor([-6.0, -6.0, -6.0]))  # G gains: the margin stays
    for _ in range(2):
        loss.update(side(torch.tensor([-3.0, -3.0, -3.0])), better)
    assert loss.margin == 5


def test_a_pack_counts_as_its_images_between_two_checks_of_the_margin() -> None:
    loss = instantiate(small(*MAGAN).loss)
    real, fake = (side(torch.full((3,), energy))._replace(images=torch.zeros(6, 1)) for energy in (-5.0, -7.0))
    loss.update(real, fake)
    loss.update(real, fake)
    assert loss.margin == 5


def test_pretraining_sets_the_first_margin_to_the_energy_of_real_images() -> None:
    loss = instantiate(small(*MAGAN, "trick=[pretrain_discriminator]", "trick.pretrain_discriminator.images=12").loss)
    ones, fake = torch.ones(3), side(torch.tensor([-7.0, -7.0, -7.0]))
    for energy in (9.0, 8.0, 6.0):
        real = side(torch.full((3,), -energy))
        assert loss.discriminator(real, fake, ones, 0 * ones).item() == energy  # D reconstructs, and pays nothing for fakes
        assert loss.margin == 0
        loss.update(real, fake)
    loss.update(side(torch.full((3,), -4.0)), fake)
    assert loss.margin == 5  # the mean of the last quarter, by whole batches: 6 and 4
    assert loss.discriminator(real, side(torch.full((3,), -3.0)), ones, 0 * ones).item() == 6 + 2


def test_the_balance_of_began_is_a_proportional_control() -> None:
    loss = instantiate(small("loss=boundary_equilibrium", "loss.gain=0.1", "model.discriminator.autoencoder=true").loss)
    loss.update(side(torch.tensor([-8.0])), side(torch.tensor([-1.0])))
    assert loss.balance.item() == pytest.approx(0.1 * (0.75 * 8 - 1))
    assert loss.convergence.item() == pytest.approx(8 + 5)
    loss.update(side(torch.tensor([-1.0])), side(torch.tensor([-90.0])))
    assert loss.balance == 0
    assert loss.fake(torch.tensor(-5.0)) == 0


def test_the_multiplier_of_fisher_moves_towards_its_constraint() -> None:
    loss = instantiate(small("loss=fisher", "loss.penalty=0.5").loss)
    loss.update(side(torch.tensor([2.0])), side(torch.tensor([2.0])))
    assert loss.multiplier.item() == pytest.approx(0.5 * 3)
    real, fake = side(torch.tensor([3.0, 1.0])), side(torch.tensor([1.0, -1.0]))
    excess = ((9 + 1) / 2 + (1 + 1) / 2) / 2 - 1
    ones = torch.ones(2)
    assert loss.discriminator(real, fake, ones, ones).item() == pytest.approx(-2 + 1.5 * excess + 0.5 / 2 * excess**2)


@pytest.mark.process
def test_fisher_holds_its_constraint_within_the_first_tenth_of_a_short_run(tmp_path: Path, data_root: str) -> None:
    class Moments(Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_train_batch_end(self, trainer: Any, game: Any, outputs: Any, batch: Any, batch_index: int) -> None:
            with torch.no_grad():
                fakes = game.model.fake(batch, game.latents(len(batch[0]), "here"))
                squares = [game.judge(shown).logits.square().mean() for shown in (game.model.real(batch, None), fakes)]
            self.seen.append(float(sum(squares)) / 2)

    moments = Moments()
    fit(composed("loss=fisher", "trick=[]", "precision=fp32", f"data.root='{data_root}'"), tmp_path, 60, moments)
    early, held = moments.seen[:10], moments.seen[47:]  # a tenth of 30,000 images in batches of 64
    assert max(early) > 10
    assert 0.1 < mean(held) < 4


@pytest.mark.parametrize("name", LOSS_SETTINGS)
def test_an_energy_wants_an_autoencoder(name: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f"loss={name}: it needs an autoencoder as the discriminator; set model.discriminator.autoencoder=true"
    ):
        small(f"loss={name}")
