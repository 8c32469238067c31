"""The mathematics of the regularizers and tips, each against an independent computation."""

import math
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.games import CPU, choices, composed, fit, small, small_with
from test_tricks import judged, linear_judge
from twoplayer.errors import ConfigurationError
from twoplayer.game.build import build_game
from twoplayer.game.optimizers import optimistic_adam
from twoplayer.losses.least_squares import LeastSquares
from twoplayer.models.base import Example, Judge, Model, Side
from twoplayer.tricks.ada import ADA
from twoplayer.tricks.adaptive_steps import AdaptiveSteps
from twoplayer.tricks.augmentations import brighten, cut_out, translate, warp
from twoplayer.tricks.base import Costs, Trick, Tricks, Turns
from twoplayer.tricks.consistency import Consistency
from twoplayer.tricks.diff_augment import DiffAugment
from twoplayer.tricks.dragan import DRAGAN
from twoplayer.tricks.feature_matching import FeatureMatching
from twoplayer.tricks.frozen_discriminator import FrozenDiscriminator
from twoplayer.tricks.generator_dropout import GeneratorDropout
from twoplayer.tricks.generator_noise import GeneratorNoise
from twoplayer.tricks.gradient_clipping import GradientClipping
from twoplayer.tricks.inserted import LAYERS
from twoplayer.tricks.label_flipping import LabelFlipping
from twoplayer.tricks.lecam import LeCam
from twoplayer.tricks.minibatch_discrimination import Closeness
from twoplayer.tricks.minibatch_stddev import Spread
from twoplayer.tricks.mixed_batches import MixedBatches
from twoplayer.tricks.old_opponents import OldOpponents
from twoplayer.tricks.packing import Packing
from twoplayer.tricks.pulling_away import PullingAway
from twoplayer.tricks.r1 import R1
from twoplayer.tricks.r2 import R2
from twoplayer.tricks.relaxed_wasserstein import RelaxedWasserstein
from twoplayer.tricks.replay import Replay
from twoplayer.tricks.soft_labels import SoftLabels
from twoplayer.tricks.spectral_norm import SpectralNorm
from twoplayer.tricks.spherical_latents import SphericalLatents
from twoplayer.tricks.top_k import TopK
from twoplayer.tricks.uniform_latents import UniformLatents
from twoplayer.tricks.weight_clipping import WeightClipping
from twoplayer.tricks.wgan_div import WGANDiv
from twoplayer.tricks.wgan_gp import WGANGP

IMAGES = (5, 1, 4, 4)


def example(images: Tensor) -> Example:
    return Example(images, torch.arange(len(images)), None)


def features(values: Tensor) -> Side:
    return Side(torch.zeros(len(values), 1, 4, 4), torch.zeros(len(values)), None, None, torch.zeros(len(values)), values)


def logits(values: list[float]) -> Side:
    return Side(torch.zeros(len(values), 1, 4, 4), torch.zeros(len(values)), None, None, torch.tensor(values), torch.zeros(len(values), 2))


@pytest.mark.parametrize(
    ("trick", "expected"),
    [
        (R2(weight=3.0, every_updates=1), lambda norm: 1.5 * norm**2),
        (DRAGAN(weight=10.0, spread=0.5, every_updates=1), lambda norm: 10 * (norm - 1) ** 2),
        (WGANDiv(weight=2.0, power=6.0, every_updates=1), lambda norm: 2 * norm**6),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Trick) else "",
)
def test_a_slope_is_punished_as_the_paper_says(trick: Trick, expected: Any) -> None:
    direction = 0.3 * torch.randn(1, 4, 4)
    judge = linear_judge(direction)
    penalty = trick.penalty(judged(torch.randn(IMAGES), judge), judged(torch.randn(IMAGES), judge), judge)
    assert float(penalty) == pytest.approx(expected(float(direction.square().sum().sqrt())), rel=1e-4)


def test_dragan_looks_around_real_images() -> None:
    seen = []

    def judge(shown: Example) -> Side:
        seen.append(shown.images.detach())
        return Side(*shown, shown.images.flatten(1).sum(1), shown.images)

    images = 3 * torch.randn(400, 1, 4, 4)
    side = judged(images, judge)
    DRAGAN(weight=1.0, spread=0.5, every_updates=1).penalty(side, side, judge)
    noise = seen[-1] - images
    assert float(noise.min()) >= 0
    assert float(noise.max()) == pytest.approx(0.5 * float(images.std()), rel=0.05)


@pytest.mark.parametrize(
    "trick", [WGANGP(weight=1.0, every_updates=1), DRAGAN(weight=1.0, spread=0.5, every_updates=1)], ids=["wgan_gp", "dragan"]
)
def test_a_pack_is_one_point_between(trick: Trick) -> None:
    """All images of a pack have the same share of the way, as D judges them as one."""
    seen = []

    def judge(shown: Example) -> Side:
        seen.append(shown.images.detach())
        return Side(*shown, shown.images.reshape(len(shown.images) // 2, -1).sum(1), shown.images)

    with_ones, with_zeros = judged(torch.ones(200, 1, 16, 16), judge), judged(torch.zeros(200, 1, 16, 16), judge)
    noisy = judged(torch.randn(200, 1, 16, 16), judge)
    trick.penalty(noisy if isinstance(trick, DRAGAN) else with_ones, with_zeros, judge)
    moved = (seen[-1] - noisy.images.detach() if isinstance(trick, DRAGAN) else seen[-1]).mean((1, 2, 3)).view(100, 2)
    assert float((moved[:, 0] - moved[:, 1]).abs().max()) < 0.05
    assert float(moved[:, 0].std()) > 0.05


def test_weights_are_cut() -> None:
    discriminator = nn.Linear(30, 30)
    old = discriminator.weight.detach().clone()
    WeightClipping(limit=0.05).after_discriminator(discriminator, logits([0.0]), logits([0.0]))
    assert torch.equal(discriminator.weight, old.clamp(-0.05, 0.05))


def test_the_relaxed_critic_sees_the_gradient_of_the_divergence() -> None:
    images = (2 * torch.rand(IMAGES) - 1).requires_grad_()
    pixels = (0.1 + 0.9 * (images + 1) / 2).detach().requires_grad_()
    (gradient,) = torch.autograd.grad((pixels * pixels.log()).sum(), pixels)
    seen = RelaxedWasserstein(least=0.1).view(images)
    assert torch.allclose(seen, 1 + 2 * (gradient - 1) / math.log(10), atol=1e-6)  # 1 + log 1 becomes 1, 1 + log 0.1 becomes -1
    (slope,) = torch.autograd.grad(seen.sum(), images)
    (hessian,) = torch.autograd.grad((pixels.log() + 1).sum(), pixels)
    assert torch.allclose(slope, hessian * 0.45 * 2 / math.log(10), atol=1e-5)


def test_the_relaxed_critic_sees_images_in_their_range_and_clamps_what_is_beyond() -> None:
    seen = RelaxedWasserstein(least=0.1).view(torch.tensor([-3.0, -1.0, 1.0, 3.0]))
    assert seen.tolist() == pytest.approx([-1, -1, 1, 1], abs=1e-6)


def test_a_frozen_discriminator_never_has_a_turn() -> None:
    assert FrozenDiscriminator().turns(0, Turns(2, 3), None) == Turns(0, 3)


def test_spectral_norm_leaves_no_layer_that_stretches() -> None:
    discriminator = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(32, 4))
    SpectralNorm().wrap(nn.Identity(), discriminator)
    for _ in range(50):
        discriminator(torch.randn(2, 3, 4, 4))
    for layer in (discriminator[0], discriminator[2]):
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1.0, abs=1e-3)  # type: ignore[union-attr, operator]


def test_gradients_are_shortened_for_the_player_that_has_a_limit() -> None:
    trick = GradientClipping(generator=2.0, discriminator=None)
    for player, expected in (("generator", 2.0), ("discriminator", 5.0)):
        weight = nn.Parameter(torch.zeros(2))
        weight.grad = torch.tensor([3.0, 4.0])
        trick.gradients(player, [weight])  # type: ignore[arg-type]
        assert float(weight.grad.norm()) == pytest.approx(expected, rel=1e-4)


def test_consistency_is_the_squared_change_of_what_d_says() -> None:
    trick = Consistency(real_weight=2.0, fake_weight=3.0, shift=0.25, every_updates=1)
    moved = []

    def judge(shown: Example) -> Side:
        moved.append(shown.images)
        return Side(*shown, shown.images[:, 0, 0, 0], shown.images)

    real, fake = judged(torch.randn(IMAGES), judge), judged(torch.randn(IMAGES), judge)
    penalty = trick.penalty(real, fake, judge).item()
    changes = [float((moved[index][:, 0, 0, 0] - side.logits).square().mean()) for index, side in ((-2, real), (-1, fake))]
    assert penalty == pytest.approx(2 * changes[0] + 3 * changes[1], rel=1e-5)
    flat = judged(torch.ones(IMAGES), judge)
    assert float(trick.penalty(flat, flat, judge)) == 0


def test_lecam_draws_each_side_to_the_mean_of_the_other() -> None:
    trick = LeCam(weight=0.5, decay=0.9, every_updates=1)
    real, fake = logits([1.0, 3.0]), logits([-1.0, 0.0])
    judge: Judge = lambda shown: Side(*shown, shown.images, shown.images)  # noqa: E731
    assert float(trick.penalty(real, fake, judge)) == 0  # there is no mean yet
    trick.after_discriminator(nn.Identity(), real, fake)
    assert [float(mean) for mean in trick.report().values()] == pytest.approx([2.0, -0.5])  # not a tenth of them
    expected = ((1 + 0.5) ** 2 + (3 + 0.5) ** 2 + (-1 - 2) ** 2 + (0 - 2) ** 2) / 2
    assert float(trick.penalty(real, fake, judge)) == pytest.approx(0.5 * expected, rel=1e-5)
    trick.after_discriminator(nn.Identity(), logits([4.0, 4.0]), fake)
    assert float(trick.report()["real"]) == pytest.approx((0.9 * 0.1 * 2 + 0.1 * 4) / (1 - 0.9**2))


def test_lecam_wants_one_output() -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"trick=lecam: loss=mmd makes D output vectors, but this trick needs one number per image; choose another loss",
    ):
        composed("loss=mmd", "trick=[wgan_gp,lecam]")


def test_latents_come_from_the_prior_that_was_chosen() -> None:
    latents = torch.randn(4000, 16)
    assert torch.allclose(SphericalLatents().latents(latents).norm(dim=1), torch.tensor(4.0))
    uniform = UniformLatents().latents(latents).flatten()
    assert uniform.abs().max() <= 1
    assert [float((uniform < value).float().mean()) for value in (-0.5, 0.0, 0.5)] == pytest.approx([0.25, 0.5, 0.75], abs=0.01)


def test_mixed_batches_share_their_statistics() -> None:
    def judge(shown: Example) -> Side:
        values = shown.images.flatten(1).sum(1)
        return Side(*shown, values - values.mean(), shown.images)

    real, fake = torch.randn(IMAGES), torch.randn(IMAGES)
    real_side, fake_side = MixedBatches().judge_both(judge, example(real), example(fake))
    together = judge(example(torch.cat([real, fake]))).logits
    assert torch.equal(torch.cat([real_side.logits, fake_side.logits]), together)
    assert not torch.allclose(real_side.logits, judge(example(real)).logits)
    for_generator = MixedBatches().judge_fakes(judge, example(real), example(fake))
    assert for_generator[0] is not None
    assert torch.equal(
        torch.cat([for_generator[0].logits, for_generator[1].logits]), together
    )  # G is judged by the statistics that D was trained with


def test_the_players_meet_mixed_batches_in_both_updates(tmp_path: Path) -> None:
    game, sizes = build_game(small("trick=[mixed_batches]"), CPU), []
    game.model.discriminator.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    fit(small("trick=[mixed_batches]"), tmp_path, 2, game=game)
    assert sizes == [32] * 4  # batches of 16 real images and 16 fakes


def test_soft_labels_lie_in_their_ranges() -> None:
    real, fake = SoftLabels(real=[0.7, 1.2], fake=[0.0, 0.3]).targets(torch.ones(4000), torch.zeros(4000))
    for labels, low, high in ((real, 0.7, 1.2), (fake, 0.0, 0.3)):
        assert float(labels.min()) == pytest.approx(low, abs=0.01)
        assert float(labels.max()) == pytest.approx(high, abs=0.01)
        assert float(labels.mean()) == pytest.approx((low + high) / 2, abs=0.01)


def test_some_labels_are_flipped_on_both_sides() -> None:
    real, fake = LabelFlipping(share=0.2).targets(torch.full((5000,), 0.9), torch.zeros(5000))
    assert sorted(set(real.tolist())) == pytest.approx([0.0, 0.9])  # a wrong label is one that the other side has
    assert float((real < 0.5).float().mean()) == pytest.approx(0.2, abs=0.02)
    assert float((fake > 0.5).float().mean()) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("order", [["label_flipping", "soft_labels"], ["soft_labels", "label_flipping"]])
def test_flipped_labels_are_as_soft_as_those_of_the_other_side_whatever_is_listed_first(order: list[str]) -> None:
    available = {"label_flipping": LabelFlipping(share=0.3), "soft_labels": SoftLabels(real=[0.7, 1.2], fake=[0.0, 0.3])}
    real, fake = Tricks({name: available[name] for name in order}).targets(torch.zeros(4000), torch.zeros(4000))
    for labels, share in ((real, 0.7), (fake, 0.3)):
        near_one, near_zero = (labels >= 0.7) & (labels <= 1.2), (labels >= 0) & (labels <= 0.3)
        assert bool((near_one | near_zero).all())
        assert float(near_one.float().mean()) == pytest.approx(share, abs=0.03)


def test_old_and_new_fakes_are_judged_in_batches_of_their_own() -> None:
    trick, batches = Replay(share=0.25, capacity=64, channels=1, image_size=2), []

    def judge(shown: Example) -> Side:
        batches.append(len(shown.images))
        values = shown.images.flatten(1).sum(1)
        return Side(*shown, values - values.mean(), shown.images)

    real, fakes = example(torch.randn(8, 1, 2, 2)), trick.replay(example(torch.randn(8, 1, 2, 2)))
    real_side, fake_side = trick.judge_both(judge, real, fakes)
    assert batches == [8, 2, 6]
    assert torch.equal(real_side.logits, judge(real).logits)
    assert torch.equal(fake_side.features, fakes.images)
    assert fake_side.logits[:2].mean().abs() < 1e-6  # normalized by themselves
    assert fake_side.logits[2:].mean().abs() < 1e-6


def test_what_d_judges_is_decided_by_one_trick() -> None:
    with pytest.raises(ConfigurationError, match=r"trick=\[replay,mixed_batches\]: each decides in which batches D judges"):
        composed("trick=[replay,mixed_batches]")
    with pytest.raises(ConfigurationError, match=r"trick=\[replay,packing\]: 19 old fakes do not divide into packs of 2"):
        composed("trick=[replay,packing]", "trick.replay.share=0.3")


def test_batches_by_whose_statistics_nothing_can_be_normalized_are_refused() -> None:
    batch = ["model=gan", "model.discriminator.normalization=batch"]
    with pytest.raises(
        ConfigurationError, match=r"trick.replay.share=0.01: 1 of 64 fakes would be old, and batch normalization needs two or more"
    ):
        composed(*batch, "trick=[replay]", "trick.replay.share=0.01")
    with pytest.raises(ConfigurationError, match=r"trick=\[consistency,mixed_batches\]: with batch normalization"):
        composed(*batch, "trick=[consistency,mixed_batches]")
    composed("model=gan", "trick=[consistency,replay]", "trick.replay.share=0.01")


def test_replay_shows_fakes_that_were_kept() -> None:
    trick = Replay(share=0.5, capacity=4, channels=1, image_size=2)

    def batch(value: float) -> Example:
        return Example(torch.full((4, 1, 2, 2), value), torch.full((4,), int(value)), None)

    assert trick.replay(batch(1)).images.unique().tolist() == [1.0]  # nothing is kept yet
    shown = trick.replay(batch(2))
    assert shown.images[:, 0, 0, 0].tolist() == [1.0, 1.0, 2.0, 2.0]
    assert shown.condition.tolist() == [1, 1, 2, 2]
    trick.replay(batch(3))
    assert sorted(trick.images[:, 0, 0, 0].tolist()) == [2.0, 2.0, 3.0, 3.0]  # the oldest are gone
    assert {float(trick.replay(batch(4)).images[0, 0, 0, 0]) for _ in range(1)} <= {2.0, 3.0}


def mean_of(norm: nn.BatchNorm1d) -> Tensor:
    assert norm.running_mean is not None
    return norm.running_mean


def test_an_old_opponent_stands_in_and_leaves_no_trace() -> None:
    layer, norm = nn.Linear(2, 2), nn.BatchNorm1d(2)
    generator, discriminator = nn.Sequential(layer, norm), nn.Linear(2, 1)
    trick = OldOpponents(every_iterations=3, age=2)
    trick.ready(generator, discriminator)
    old = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(1)
    new = layer.weight.detach().clone()
    with trick.opponent("generator", 1):
        assert torch.equal(layer.weight, new)
    mean = mean_of(norm).clone()
    trick.interval = 2
    with trick.opponent("generator", 1):
        assert torch.equal(layer.weight, old)
        generator(torch.randn(8, 2))
    assert torch.equal(layer.weight, new)
    assert torch.equal(mean_of(norm), mean)
    with trick.opponent("generator", 2):
        pass
    with trick.opponent("generator", 3):
        assert torch.equal(layer.weight, new)  # a copy was taken at 2


def test_a_player_goes_on_while_its_cost_is_too_high() -> None:
    trick = AdaptiveSteps(discriminator=1.0, generator=2.0)
    turns = {
        (discriminator, generator): tuple(trick.turns(0, Turns(1, 1), Costs(torch.tensor(discriminator), torch.tensor(generator))))
        for discriminator in (0.5, 1.5)
        for generator in (1.5, 2.5)
    }
    assert turns == {(0.5, 1.5): (1, 1), (0.5, 2.5): (0, 1), (1.5, 1.5): (1, 0), (1.5, 2.5): (1, 0)}
    assert tuple(trick.turns(0, Turns(1, 1), None)) == (1, 1)


def test_noise_is_behind_every_hidden_layer_while_training() -> None:
    layers = {"0": nn.Linear(4, 500), "1": nn.ReLU(), "2": nn.Linear(500, 500), "output": nn.Linear(500, 3)}
    generator = nn.Sequential(OrderedDict(layers))
    GeneratorNoise(sigma=0.5).wrap(generator, nn.Identity())
    assert [type(layer).__name__ for layer in generator] == ["Sequential", "ReLU", "Sequential", "Linear"]
    latents = torch.zeros(200, 4)
    noise = generator[0](latents) - generator[0][0](latents)  # type: ignore[index]
    assert float(noise.std()) == pytest.approx(0.5, rel=0.02)
    generator.eval()
    assert torch.equal(generator(latents), generator(latents))


@pytest.mark.parametrize("trick", ["generator_noise", "generator_dropout"])
@pytest.mark.parametrize("model", [name for name in choices("model") if name != "pixel_cnn"])
def test_what_is_put_behind_hidden_layers_is_not_behind_the_last(model: str, trick: str) -> None:
    generator: Any = build_game(small_with(trick, model), CPU).model.generator
    inserted = [name for name, module in generator.named_modules() if type(module).__name__ in ("Noise", "Dropout")]
    beside, last = getattr(generator, "beside", ()), set(generator.output.modules())
    layers = [module for name, module in generator.named_modules() if isinstance(module, LAYERS) and name.partition(".")[0] not in beside]
    assert len(inserted) == len([layer for layer in layers if layer not in last]) >= 2
    assert layers[-1] in last


def test_dropout_does_not_end_with_training() -> None:
    generator = nn.Sequential(OrderedDict({"0": nn.Linear(4, 5000), "output": nn.Linear(5000, 3)})).eval()
    GeneratorDropout(share=0.3).wrap(generator, nn.Identity())
    assert float((generator.eval()[0](torch.randn(2, 4)) == 0).float().mean()) == pytest.approx(0.3, abs=0.03)


def test_minibatch_discrimination_sums_closeness_to_63_others() -> None:
    layer, values = Closeness(6, num=2, size=3), torch.randn(4, 6)
    out = layer(values)
    rows = layer.tensor(values).view(4, 2, 3)
    for image in range(4):
        for kernel in range(2):
            expected = sum(
                math.exp(-float((rows[image, kernel] - rows[other, kernel]).abs().sum())) for other in range(4) if other != image
            )
            assert float(out[image, 6 + kernel]) == pytest.approx(63 / 3 * expected, rel=1e-4)
    assert torch.equal(out[:, :6], values)
    assert torch.allclose(layer(values.repeat_interleave(2, 0))[::2, 6:] * 7 / 63, 2 * out[:, 6:] * 3 / 63 + 1), "sums"
    assert layer(values[:1])[:, 6:].tolist() == [[0.0, 0.0]]


def test_minibatch_stddev_is_the_mean_spread() -> None:
    values = torch.randn(8, 5)
    out = Spread()(values)
    assert out[:, 5].tolist() == pytest.approx([float(values.std(0, correction=0).mean())] * 8, rel=1e-4)


@pytest.mark.parametrize("trick", ["minibatch_discrimination", "minibatch_stddev"])
def test_what_widens_the_last_layer_wants_one(trick: str) -> None:
    with pytest.raises(ConfigurationError, match=f"trick={trick}: it does not work with model.discriminator.autoencoder=true"):
        small("loss=energy", "model.discriminator.autoencoder=true", f"trick=[{trick}]")


def test_translated_images_are_moved_by_whole_pixels() -> None:
    images = torch.arange(64.0).view(1, 1, 8, 8).expand(300, 1, 8, 8)
    moved = translate(images, 0.25)
    corners = {(int(image[0, 4, 4]) // 8 - 4, int(image[0, 4, 4]) % 8 - 4) for image in moved}
    assert corners == {(row, column) for row in range(-2, 3) for column in range(-2, 3)}
    inner = moved[0, 0, 3:5, 3:5]
    assert torch.equal(inner - inner[0, 0], images[0, 0, 3:5, 3:5] - images[0, 0, 3, 3])
    columns = torch.arange(8.0).expand(1, 1, 8, 8)
    seen = {tuple(image[0, 0].int().tolist()) for image in translate(columns.expand(300, 1, 8, 8), 0.25)}
    assert {(0, 0, 0, 1, 2, 3, 4, 5), (2, 3, 4, 5, 6, 7, 7, 7)} <= seen
    assert all(0 <= after - before <= 1 for row in seen for before, after in pairwise(row))


def test_translation_and_cutout_let_gradients_through() -> None:
    images = torch.randn(IMAGES, requires_grad=True)
    cut_out(translate(brighten(images, 0.3), 0.25), 0.5).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_a_warp_moves_pixels_as_its_matrix_says() -> None:
    images = torch.zeros(64, 1, 17, 17)
    images[:, :, 4, 8] = 1.0  # above the middle
    assert torch.allclose(warp(images, 0.0, 0.0, 0.0), images, atol=1e-5)
    rows, columns = torch.meshgrid(torch.arange(17.0) - 8, torch.arange(17.0) - 8, indexing="ij")

    def centers(moved: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weights = moved[:, 0] / moved[:, 0].sum((1, 2), keepdim=True)
        return (weights * rows).sum((1, 2)), (weights * columns).sum((1, 2))

    down, across = centers(warp(images, 45.0, 0.0, 0.0))
    assert torch.allclose((down**2 + across**2).sqrt(), torch.full((64,), 4.0), atol=0.3), "a rotation keeps distances"
    assert float(across.abs().max()) == pytest.approx(4 / 2**0.5, abs=0.4)
    down, across = centers(warp(images, 0.0, 0.5, 0.0))
    assert torch.allclose(down, torch.full((64,), -4.0), atol=0.05), "a shear moves lines sideways"
    assert 1.2 < float(across.abs().max()) <= 2.05
    down, across = centers(warp(images, 0.0, 0.0, 0.3))
    assert torch.allclose(across, torch.zeros(64), atol=0.05)
    assert float(down.min()) < -4.5
    assert float(down.max()) > -3.6


def test_a_cutout_is_a_rectangle_of_zeros() -> None:
    cut = cut_out(torch.ones(500, 1, 8, 8), 0.5) == 0
    areas = cut.sum((1, 2, 3))
    assert int(areas.max()) == 16
    assert torch.equal(areas, cut.any(2).sum((1, 2)) * cut.any(3).sum((1, 2)))


def test_brightness_is_one_number_per_image() -> None:
    change = brighten(torch.zeros(2000, 1, 4, 4), 0.25)
    assert torch.equal(change.amin((1, 2, 3)), change.amax((1, 2, 3)))
    assert float(change.abs().max()) == pytest.approx(0.25, abs=0.01)


def test_ada_turns_up_while_d_is_right_too_often() -> None:
    settings = {"target": 0.6, "ramp_images": 10, "brightness": 0.2, "translation": 0.1, "cutout": 0.5}
    trick = ADA(**settings)  # type: ignore[arg-type]
    trick.build(Model(nn.Identity(), nn.Identity()), LeastSquares())
    assert torch.equal(trick.view(torch.ones(IMAGES)), torch.ones(IMAGES))
    sure, unsure = logits([0.9, 0.8, 0.7, 0.6]), logits([0.9, 0.1, 0.7, 0.2])
    trick.after_discriminator(nn.Identity(), sure, sure)
    assert (float(trick.sign), float(trick.probability)) == pytest.approx((1.0, 0.4))
    trick.after_discriminator(nn.Identity(), unsure, sure)
    assert (float(trick.sign), float(trick.probability)) == pytest.approx((0.0, 0.0))


def test_ada_wants_a_boundary() -> None:
    with pytest.raises(ConfigurationError, match=r"trick=ada: with Relativistic D's output has no boundary"):
        composed("loss=relativistic", "trick=[ada]")


def test_top_k_weighs_the_best_alone() -> None:
    trick = TopK(least=0.5, decay=0.5, fade_images=100)
    values = torch.tensor([0.1, 3.0, -2.0, 1.0])
    assert trick.weights(values, torch.ones(4)).tolist() == [1.0] * 4
    trick.begin(1000, {})
    assert trick.weights(values, torch.ones(4)).tolist() == [0.0, 2.0, 0.0, 2.0]


def test_packs_are_of_one_side_and_divide_the_batch() -> None:
    images = torch.arange(6.0).view(6, 1, 1, 1)
    assert Packing(size=3).view(images).flatten(1).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert composed("trick=[packing]", "trick.packing.size=4").model.discriminator.packs == 4
    assert Packing(size=3).view(torch.arange(6.0).view(3, 2)).tolist() == [[0, 1, 2, 3, 4, 5]]  # points
    both = Tricks(
        {
            "packing": Packing(size=2),
            "diff_augment": DiffAugment(brightness=0.5, translation=0.0, cutout=0.0, rotation=0.0, shear=0.0, scale=0.0),
        }
    )
    pack = both.view(torch.zeros(6, 1, 1, 1)).flatten(1)
    assert pack.shape == (3, 2)
    assert not torch.equal(pack[:, 0], pack[:, 1])  # each image is changed in its own way, whatever is listed first
    with pytest.raises(ConfigurationError, match=r"trick.packing.size=3: data.batch_size=64 does not divide into packs of 3"):
        composed("trick=[packing]", "trick.packing.size=3")


@pytest.mark.parametrize("replace", [True, False])
def test_feature_matching_is_the_distance_of_means(replace: bool) -> None:
    real, fake = features(torch.tensor([[1.0, 0.0], [3.0, 2.0]])), features(torch.tensor([[0.0, 0.0], [0.0, 2.0]]))
    trick = FeatureMatching(weight=0.5, replace=replace, every_updates=1)
    judge: Judge = lambda shown: Side(*shown, shown.images, shown.images)  # noqa: E731
    assert float(trick.generator_penalty(real, fake, judge)) == pytest.approx(0.5 * 4)
    assert float(trick.generator_cost(torch.tensor(7.0), real, fake)) == (0 if replace else 7)
    assert not replace or float(trick.generator_cost(torch.tensor(-math.inf), real, fake)) == 0


def test_pulling_away_is_the_mean_squared_cosine() -> None:
    fake = features(torch.tensor([[1.0, 0.0], [2.0, 2.0], [0.0, 3.0]]))
    penalty = PullingAway(weight=1.0, every_updates=1).generator_penalty(None, fake, lambda shown: Side(*shown, shown.images, shown.images))
    assert float(penalty) == pytest.approx((0.5 + 0.5 + 0.0) / 3, rel=1e-5)


def test_optimistic_adam_is_what_the_paper_says_and_does_not_circle() -> None:
    x, y = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))
    settings = {"lr": 0.01, "beta1": 0.5, "beta2": 0.9, "eps": 1e-8}
    players = [optimistic_adam([player], **settings) for player in (x, y)]
    mean = square = last = 0.0
    expected = 1.0
    for step in range(1, 1500):
        x.grad, y.grad = y.detach().clone(), -x.detach().clone()  # the game of V = x y
        gradient = float(x.grad)
        mean, square = 0.5 * mean + 0.5 * gradient, 0.9 * square + 0.1 * gradient**2
        new = 0.01 * (mean / (1 - 0.5**step)) / (math.sqrt(square / (1 - 0.9**step)) + 1e-8)
        expected, last = expected - 2 * new + last, new
        for player in players:
            player.step()
        if step < 50:
            assert float(x.detach()) == pytest.approx(expected, abs=1e-4)
    assert math.hypot(float(x.detach()), float(y.detach())) < 0.5


def test_two_tricks_that_set_the_same_thing_are_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"trick=\[wgan_gp,spectral_norm\]: wgan_gp sets model.discriminator.normalization=layer and spectral_norm"
    ):
        composed("loss=wasserstein", "trick=[wgan_gp,spectral_norm]")
    with pytest.raises(ConfigurationError, match=r"trick=\[two_learning_rates,sgd_discriminator\]: .* leave one of them out"):
        composed("trick=[two_learning_rates,sgd_discriminator]")


def test_r2_is_r1_at_fakes() -> None:
    def side(slope: float) -> Side:
        images = torch.randn(3, 1, 2, 2, requires_grad=True)
        return Side(images, torch.zeros(3), None, None, slope * images.flatten(1).sum(1), torch.zeros(3, 1))

    real, fake = side(2.0), side(5.0)
    for trick, slope in ((R1(weight=1.0, every_updates=1), 2.0), (R2(weight=1.0, every_updates=1), 5.0)):
        penalty = trick.penalty(real, fake, lambda example: pytest.fail("it judges nothing"))
        assert penalty.item() == pytest.approx(slope**2 * 4 / 2)
