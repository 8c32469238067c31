"""The mathematics of each trick against an independent computation."""

import math
import re
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from helpers.games import fit, same, small, weights
from twoplayer.game.engine import Eager
from twoplayer.game.game import Game
from twoplayer.models.base import Example, Judge, Side
from twoplayer.tricks import base as tricks_base
from twoplayer.tricks.base import Trick, Tricks, Turns
from twoplayer.tricks.discriminator_steps import DiscriminatorSteps
from twoplayer.tricks.ema import EMA
from twoplayer.tricks.generator_steps import GeneratorSteps
from twoplayer.tricks.instance_noise import InstanceNoise
from twoplayer.tricks.label_smoothing import LabelSmoothing
from twoplayer.tricks.pretrain_discriminator import PretrainDiscriminator
from twoplayer.tricks.r1 import R1
from twoplayer.tricks.schedule import Schedule
from twoplayer.tricks.wgan_gp import WGANGP


def linear_judge(direction: Tensor) -> Judge:
    """A discriminator whose slope is `direction` everywhere."""

    def judge(example: Example) -> Side:
        return Side(*example, (example.images * direction).flatten(1).sum(1), example.images.flatten(1))

    return judge


def judged(images: Tensor, judge: Judge) -> Side:
    images = images.clone().requires_grad_()
    example = Example(images, torch.zeros(len(images)), None)
    return judge(example)


def test_label_smoothing_is_one_sided() -> None:
    real, fake = LabelSmoothing(real_label=0.9).targets(torch.ones(3), torch.zeros(3))
    assert real.tolist() == pytest.approx([0.9] * 3)
    assert fake.tolist() == [0.0] * 3


def test_discriminator_steps_are_iterations_of_their_own() -> None:
    trick = DiscriminatorSteps(steps=5)
    assert [tuple(trick.turns(iteration, Turns(1, 1), None)) for iteration in range(6)] == [(1, 0)] * 4 + [(1, 1), (1, 0)]


def test_generator_steps_are_in_one_iteration() -> None:
    assert tuple(GeneratorSteps(steps=3).turns(0, Turns(1, 1), None)) == (1, 3)


def test_pretraining_ends_after_its_images() -> None:
    trick = PretrainDiscriminator(images=100)
    trick.begin(96, {})
    assert tuple(trick.turns(6, Turns(1, 1), None)) == (1, 0)
    trick.begin(112, {})
    assert tuple(trick.turns(7, Turns(1, 1), None)) == (1, 1)


def test_instance_noise_fades_linearly() -> None:
    trick = InstanceNoise(sigma=0.4, fade_images=1000)
    images = torch.zeros(64, 1, 16, 16)
    for seen, expected in ((0, 0.4), (500, 0.2), (1000, 0.0), (2000, 0.0)):
        trick.begin(seen, {})
        assert float(trick.view(images).std()) == pytest.approx(expected, rel=0.05)


def test_r1_is_half_the_weighted_squared_slope_at_real_images() -> None:
    direction = torch.randn(1, 4, 4)
    judge = linear_judge(direction)
    penalty = R1(weight=3.0, every_updates=1).penalty(judged(torch.randn(5, 1, 4, 4), judge), judged(torch.randn(5, 1, 4, 4), judge), judge)
    assert float(penalty) == pytest.approx(1.5 * float(direction.square().sum()), rel=1e-5)


def test_r1_acts_on_the_weights_of_the_discriminator() -> None:
    scale = torch.tensor(2.0, requires_grad=True)
    judge = linear_judge(scale * torch.ones(1, 4, 4))
    side = judged(torch.randn(5, 1, 4, 4), judge)
    R1(weight=1.0, every_updates=1).penalty(side, side, judge).backward()
    assert scale.grad is not None
    assert float(scale.grad) == pytest.approx(2.0 * 16)  # d/ds of s^2 * 16 / 2


def test_wgan_gp_wants_a_slope_of_one() -> None:
    direction = torch.randn(1, 4, 4)
    judge = linear_judge(direction)
    penalty = WGANGP(weight=10.0, every_updates=1).penalty(
        judged(torch.randn(5, 1, 4, 4), judge), judged(torch.randn(5, 1, 4, 4), judge), judge
    )
    assert float(penalty) == pytest.approx(10 * (float(direction.square().sum().sqrt()) - 1) ** 2, rel=1e-4)


def test_wgan_gp_looks_between_real_and_fake() -> None:
    seen = []

    def judge(example: Example) -> Side:
        seen.append(example.images.detach())
        return Side(*example, example.images.flatten(1).sum(1), example.images)

    real, fake = judged(torch.ones(200, 1, 4, 4), judge), judged(torch.zeros(200, 1, 4, 4), judge)
    WGANGP(weight=1.0, every_updates=1).penalty(real, fake, judge)
    shares = seen[-1]
    assert torch.equal(shares.amin((1, 2, 3)), shares.amax((1, 2, 3)))  # one share per pair
    assert 0 <= shares.min() < 0.05
    assert 0.95 < shares.max() <= 1


def test_a_flat_critic_does_not_break_wgan_gp() -> None:
    scale = torch.tensor(0.0, requires_grad=True)
    judge = linear_judge(scale * torch.ones(1, 4, 4))
    side = judged(torch.randn(5, 1, 4, 4), judge)
    WGANGP(weight=1.0, every_updates=1).penalty(side, side, judge).backward()
    assert scale.grad is not None
    assert scale.grad.isfinite()


def test_lazy_penalties_are_multiplied_by_their_interval_once() -> None:
    judge = linear_judge(torch.ones(1, 4, 4))
    side = judged(torch.randn(5, 1, 4, 4), judge)
    tricks = Tricks({"r1": R1(weight=1.0, every_updates=4)})
    assert [bool(tricks.due("discriminator", updates)) for updates in range(9)] == [True, False, False, False] * 2 + [True]
    assert tricks.due("generator", 0) == ()
    penalties = tricks.penalties(("r1",), side, side, judge)
    assert float(penalties["r1"]) == pytest.approx(8.0)
    assert float(tricks.total(penalties)) == pytest.approx(4 * 8.0)


def test_ema_is_the_average_it_says() -> None:
    generator = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    trick = EMA(half_life_images=100.0, ramp_up=1e9)
    trick.ready(generator, nn.Identity())
    expected = weights(generator)
    for images_seen in (10, 20, 60):
        with torch.no_grad():
            for parameter in generator.parameters():
                parameter.add_(torch.randn_like(parameter))
        elapsed = images_seen - int(trick.updated_at)
        trick.begin(images_seen, {})
        trick.after_generator(generator)
        decay = 0.5 ** (elapsed / 100)
        expected = [decay * old + (1 - decay) * new for old, new in zip(expected, weights(generator), strict=True)]
    for average, value in zip(weights(trick.sampler(generator)), expected, strict=True):
        assert torch.allclose(average, value, atol=1e-6)


def test_ema_treats_buffers_by_their_kind() -> None:
    generator = nn.Sequential(nn.utils.spectral_norm(nn.Linear(3, 2)), nn.BatchNorm1d(2))
    trick = EMA(half_life_images=10.0, ramp_up=1e9)
    trick.ready(generator, nn.Identity())
    generator(torch.randn(8, 3))
    with torch.no_grad():
        generator[1].running_mean.fill_(4.0)  # type: ignore[union-attr, operator]
    trick.begin(10, {})
    trick.after_generator(generator)
    average = dict(trick.sampler(generator).named_buffers())
    assert average["1.running_mean"].tolist() == pytest.approx([2.0, 2.0])
    assert torch.equal(average["0.weight_u"], dict(generator.named_buffers())["0.weight_u"])


def test_ema_ramps_up_from_a_copy() -> None:
    generator = nn.Linear(2, 2)
    trick = EMA(half_life_images=1e6, ramp_up=0.05)
    trick.ready(generator, nn.Identity())
    with torch.no_grad():
        generator.weight.fill_(7.0)
    trick.begin(0, {})
    trick.after_generator(generator)
    assert same(weights(trick.sampler(generator)), weights(generator))


def test_ema_does_not_alter_training(tmp_path: Path) -> None:
    plain, averaged = fit(small(), tmp_path, 5), fit(small("trick=[ema]"), tmp_path, 5)
    assert same(weights(plain.model), weights(averaged.model))
    assert not same(weights(averaged.model.generator), weights(averaged.tricks.sampler(averaged.model.generator)))


def test_an_average_that_is_read_while_the_generator_waits_does_not_move(tmp_path: Path) -> None:
    game = fit(small("trick=[ema,discriminator_steps]"), tmp_path, 7)
    assert int(game.tricks.chosen["ema"].updated_at) == 4 * game.clock.batch_size  # type: ignore[arg-type]


def test_places_are_walked_in_the_order_of_the_list() -> None:
    class Add(Trick):
        def view(self, images: Tensor) -> Tensor:
            return images + 1

    class Double(Trick):
        def view(self, images: Tensor) -> Tensor:
            return images * 2

    assert float(Tricks({"add": Add(), "twice": Double()}).view(torch.tensor(1.0))) == 4
    assert float(Tricks({"twice": Double(), "add": Add()}).view(torch.tensor(1.0))) == 3
    assert float(Tricks({}).view(torch.tensor(1.0))) == 1


def test_every_place_changes_nothing_by_default() -> None:
    tricks, logits = Tricks({"none": Trick()}), torch.randn(4)
    real, fake = tricks.targets(logits, logits)
    assert (real == 1).all()
    assert (fake == 0).all()
    assert (tricks.weights(logits) == 1).all()
    assert tricks.turns(0, None) == Turns(1, 1)
    assert tricks.report() == {}
    assert all(not acting for acting in tricks._acting.values())


def test_the_loop_on_top_of_the_tricks_names_every_place_in_the_order_of_the_calls() -> None:
    places = [name for name, method in vars(Trick).items() if callable(method) and not name.startswith("_")]
    called: list[str] = []

    def spy(place: str) -> Any:
        def act(self: Trick, *arguments: Any) -> Any:
            called.append(place)
            return torch.zeros(()) if place.endswith("penalty") or place == "code" else getattr(Trick, place)(self, *arguments)

        return act

    config = small()
    game = Game(
        instantiate(config.model),
        instantiate(config.loss),
        Tricks({"spy": type("Spy", (Trick,), {place: spy(place) for place in places})()}),
        {player: instantiate(config.optimizer[player]) for player in ("discriminator", "generator")},
        Eager(),
        batch_size=4,
        classes=range(4),
        seed=0,
        precision="fp32",
    )
    game.iterate((torch.zeros(4, 1, 16, 16), torch.zeros(4, dtype=torch.long)))
    game.sample(torch.zeros(1, 16), torch.zeros(1))
    game.classes_of(torch.zeros(1, 16))
    game.pictures((torch.zeros(1, 1, 16, 16), torch.zeros(1, dtype=torch.long)))
    game.report()
    loop = (tricks_base.__doc__ or "").partition("The loop")[2]
    named = re.findall(rf"\b({'|'.join(places)})\(", loop)
    assert list(dict.fromkeys(named)) == list(dict.fromkeys(called))
    assert set(named) == set(places)


def test_a_trick_may_be_called_replay() -> None:
    assert list(Tricks({"replay": Trick()}).chosen) == ["replay"]


@pytest.mark.parametrize(
    ("shape", "expected"), [("constant", [3, 3, 3, 3]), ("linear", [3, 3, 2, 1]), ("cosine", [3, 3, 2 + math.cos(math.pi / 3), 1])]
)
def test_a_schedule_moves_numbers_between_its_ends(shape: Literal["constant", "linear", "cosine"], expected: list[float]) -> None:
    number = torch.tensor(3.0)
    trick, seen = Schedule(shape=shape, begin_images=100, end_images=400, to={"trick": {"r1": {"weight": 1.0}}}), []
    moments = (0, 100, 250, 500) if shape != "cosine" else (0, 100, 200, 500)
    for moment in moments:
        trick.begin(moment, {"trick.r1.weight": number})
        seen.append(float(number))
    assert seen == pytest.approx(expected)


def test_a_schedule_reaches_optimizers_penalties_and_the_average(tmp_path: Path) -> None:
    goals = ["optimizer.generator.beta2=0.5", "trick.r1.weight=0.05", "trick.ema.half_life_images=100.0"]
    game = fit(
        small("trick=[ema,r1,schedule]", "trick.schedule.end_images=48", *(f"+trick.schedule.to.{goal}" for goal in goals)), tmp_path, 5
    )
    numbers = game.numbers
    assert float(numbers["optimizer.discriminator.lr"]) == 0
    assert [float(numbers[goal.partition("=")[0]]) for goal in goals] == pytest.approx([0.5, 0.05, 100])


def test_a_player_whose_learning_rate_has_come_to_zero_stands_still(tmp_path: Path) -> None:
    settings = ["trick=[schedule]", "trick.schedule.end_images=48", "~trick.schedule.to.optimizer.discriminator"]
    short, long = fit(small(*settings), tmp_path / "short", 3), fit(small(*settings), tmp_path / "long", 6)
    assert same(weights(short.model.generator), weights(long.model.generator))
    assert not same(weights(short.model.discriminator), weights(long.model.discriminator))
