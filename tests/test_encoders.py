"""Models with an encoder: autoencoders, and GANs that invert their generator."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from helpers import commands
from helpers.games import CPU, fit, play, same, small, weights
from twoplayer import load
from twoplayer.errors import ConfigurationError
from twoplayer.game.build import build_game
from twoplayer.losses.base import Loss
from twoplayer.losses.hinge import Hinge
from twoplayer.losses.non_saturating import NonSaturating
from twoplayer.losses.reconstruction import Reconstruction
from twoplayer.losses.relativistic import Relativistic
from twoplayer.models import encoding
from twoplayer.models.autoregressive import Autoregressive
from twoplayer.models.base import Side

BATCH = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1, torch.arange(6) % 4
LATENTS = torch.randn(6, 16, generator=torch.Generator().manual_seed(1))
ENCODERS = ["autoencoder", "vae", "vq_vae", "aae", "bigan", "vae_gan", "cluster_gan", "categorical_aae"]
CATEGORIES = ["cluster_gan", "categorical_aae"]


def built(model: str, *overrides: str) -> Any:
    return build_game(small(*overrides, model=model), CPU)


def side(images: Tensor) -> Side:
    return Side(images, torch.zeros(len(images)), None, None, torch.zeros(len(images)), torch.zeros(len(images), 1))


@pytest.mark.parametrize(("error", "deviation"), [("squared", 0.25), ("absolute", 0.5)])
def test_a_reconstruction_costs_the_negative_log_likelihood_of_the_image(error: Any, deviation: float) -> None:
    image, other = BATCH[0], BATCH[0].flip(0)
    loss = Reconstruction(error=error, deviation=deviation)
    spread: Any = Normal(other, deviation) if error == "squared" else torch.distributions.Laplace(other, deviation / 2**0.5)
    constant = -spread.log_prob(other)  # of an image that is restored without an error
    expected = (-spread.log_prob(image) - constant).flatten(1).sum(1)
    assert torch.allclose(loss.of(other, image), expected, rtol=1e-4)
    chosen = torch.tensor([6.0, 0, 0, 0, 0, 0])
    assert torch.allclose(loss.generator(side(other), side(image), chosen), expected[0])


def test_the_divergence_is_that_of_the_posterior_from_the_prior() -> None:
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    posterior = Independent(Normal(mean, (log_variance / 2).exp()), 1)
    prior = Independent(Normal(torch.zeros(5, 3), torch.ones(5, 3)), 1)
    assert torch.allclose(encoding.divergence(mean, log_variance), kl_divergence(posterior, prior).mean())
    assert torch.allclose(encoding.drawn(mean, log_variance, torch.ones(5, 3)), mean + posterior.base_dist.stddev)


def test_a_vae_pays_for_its_error_and_for_its_divergence(tmp_path: Path) -> None:
    game = built("vae", "model.beta=3", "data.batch_size=6")
    game.update_generator(BATCH, LATENTS, ())
    fresh = built("vae", "model.beta=3", "data.batch_size=6")
    mean, log_variance = encoding.codes_of(fresh.model.encoder, BATCH[0])
    restored = fresh.model.generator(mean + (log_variance / 2).exp() * LATENTS, BATCH[1])
    cost = fresh.loss.of(restored, BATCH[0]).mean()
    divergence = 3 * encoding.divergence(mean, log_variance)
    parameters = [*fresh.model.generator.parameters()]
    expected = torch.autograd.grad(cost + divergence, parameters)
    found = [parameter.grad for parameter in game.model.generator.parameters()]
    assert all(torch.allclose(one, other, rtol=1e-3, atol=1e-3) for one, other in zip(expected, found, strict=True))


def test_a_family_without_a_discriminator_gives_it_no_turn(tmp_path: Path) -> None:
    game = fit(small("trick=[ema]", model="vae"), tmp_path, 3)
    assert game.clock.updates == {"discriminator": 0, "generator": 3}
    assert set(game.player_optimizers) == {"generator"}
    assert game.scalars.keys() == {"loss/generator", "loss/divergence", "gradient_norm/generator"}
    assert game.output(BATCH[0]) is None


def test_a_schedule_of_both_rates_moves_the_one_that_is_there(tmp_path: Path) -> None:
    game = fit(small("trick=[schedule]", "trick.schedule.end_images=48", model="vae"), tmp_path, 3)
    first = small(model="vae").optimizer.generator.lr
    assert float(game.player_optimizers["generator"].param_groups[0]["lr"]) < first


@pytest.mark.parametrize("model", ["autoencoder", "vae"])
def test_a_loss_of_a_discriminator_is_refused_where_there_is_none(model: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"loss=hinge: it needs a discriminator, but model={model} has none; set loss=recon"):
        small("loss=hinge", model=model)
    with pytest.raises(ConfigurationError, match=r"loss=own_costs: model=dcgan has no costs of its own; choose another loss, or such"):
        small("loss=own_costs")
    with pytest.raises(ConfigurationError, match=r"loss=reconstruction: it compares each fake .* model=dcgan belong to none; choose"):
        small("loss=reconstruction")


def test_codes_of_an_autoencoder_are_standardized() -> None:
    model = built("autoencoder").model
    codes = model.encode(*BATCH)
    assert torch.allclose(codes.mean(0), torch.zeros(16), atol=1e-5)
    assert torch.allclose(codes.var(0, correction=0), torch.ones(16), atol=1e-2)


def test_an_adversarial_autoencoder_judges_codes(tmp_path: Path) -> None:
    model = built("aae").model
    assert torch.equal(model.real(BATCH, LATENTS).images, LATENTS)
    fake = model.fake(BATCH, LATENTS)
    assert torch.equal(fake.images, model.encode(*BATCH))
    game = built("aae", "data.batch_size=6")
    _, scalars = game.update_generator(BATCH, LATENTS, ())
    restored = built("aae").model.restore(*BATCH)
    assert scalars["loss/reconstruction"].item() == pytest.approx(50 * (restored - BATCH[0]).square().mean().item(), rel=1e-4)
    assert game.output(BATCH[0]) is None


def test_bigan_judges_pairs_and_its_encoder_hides_real_ones() -> None:
    game = built("bigan", "data.batch_size=6")
    model = game.model
    real, fake = model.real(BATCH, LATENTS), model.fake(BATCH, LATENTS)
    assert torch.equal(real.latents, model.encode(*BATCH))
    assert fake.latents is LATENTS
    swapped = model.judge(real._replace(latents=real.latents.flip(0)))[0]
    assert not torch.equal(swapped, model.judge(real)[0])
    before = weights(model.encoder)
    game.update_discriminator(BATCH, LATENTS, ())
    assert same(before, weights(model.encoder))
    _, scalars = game.update_generator(BATCH, LATENTS, ())
    assert not same(before, weights(model.encoder))
    assert "loss/encoder" in scalars


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(NonSaturating(), (2.0 + torch.log1p(torch.tensor(2.718281828**-2.0))).item()), (Hinge(), 2.0), (Relativistic(), 0.0)],
)
def test_who_hides_a_real_image_lowers_its_logit(loss: Loss, expected: float) -> None:
    assert loss.hide(torch.tensor([2.0])).item() == pytest.approx(expected, rel=1e-5)


def test_vae_gan_compares_features_of_the_discriminator() -> None:
    game = built("vae_gan", "data.batch_size=6")
    _, scalars = game.update_generator(BATCH, LATENTS, ())
    model = built("vae_gan").model
    fake, real = model.generator(LATENTS, BATCH[1]), BATCH[0]
    model.discriminator(fake, BATCH[1])
    features = model.discriminator(real, BATCH[1])[1]
    mean, log_variance = encoding.codes_of(model.encoder, real)
    restored = model.generator(mean + (log_variance / 2).exp() * LATENTS, BATCH[1])
    other = model.discriminator(restored, BATCH[1])[1]
    assert scalars["loss/features"].item() == pytest.approx((features - other).square().mean().item(), rel=1e-3)


@pytest.mark.parametrize("model", ENCODERS)
def test_what_an_encoder_is_good_for_is_measured_and_shown(model: str, tmp_path: Path) -> None:
    summary = play(tmp_path / "run", "trick=[ema]", "budget.images=32", model=model)
    measures = summary["measures"]
    clusters = {"cluster_accuracy_test"} if model in CATEGORIES else set()
    assert measures.keys() == {"psnr_validation", "psnr_test", "code_neighbors_test"} | clusters
    assert (tmp_path / "run" / "samples" / "reconstructions.png").exists()
    assert (tmp_path / "run" / "samples" / "interpolations.png").exists()
    assert (tmp_path / "run" / "samples" / "codes_on_a_plane.png").exists()
    game = fit(small("trick=[ema]", model=model), tmp_path, 2)
    data: Any = instantiate(small("trick=[ema]", model=model).data)
    train, test = (split.images.float() / 127.5 - 1 for split in (data.splits.train, data.splits.test))
    game.model.generator = game.tricks.sampler(game.model.generator)
    model_in_use: Any = game.model.eval()
    codes = [model_in_use.encode(images, torch.zeros(len(images))).double() for images in (train, test)]
    nearest = (codes[1][:, None] - codes[0]).square().sum(2).argmin(1)
    right = (data.splits.train.labels[nearest] == data.splits.test.labels).double().mean()
    assert measures["code_neighbors_test"] == pytest.approx(right.item(), abs=0.02)


def network(size: int) -> Autoregressive:
    torch.manual_seed(0)
    model = Autoregressive(inputs=2, categories=5, size=size, width=8, dilations=[1, 2, 3])
    torch.nn.init.normal_(model.places)
    return model


def test_a_place_sees_the_earlier_ones_and_no_other() -> None:
    planes = torch.randn(1, 2, 6, 6, requires_grad=True)
    logits = network(6)(planes)
    (slope,) = torch.autograd.grad(logits[0, :, 3, 2].sum(), planes)
    seen = slope[0].abs().sum(0).flatten() > 0
    assert not seen[3 * 6 + 2 :].any()
    assert seen[3 * 6 + 1]
    assert seen[2 * 6 + 3]


def test_places_are_drawn_from_the_distribution_that_one_pass_gives() -> None:
    """Drawing computes each place alone, and one pass over the result gives the same."""
    model, values = network(5), torch.randn(5, 2)
    chances = torch.rand(7, 5, 5, generator=torch.Generator().manual_seed(1))
    drawn = model.draw(chances, values)
    passed = model(values[drawn].movedim(-1, 1)).softmax(1).cumsum(1)
    expected = (passed < chances[:, None]).sum(1).clamp(max=4)
    assert torch.equal(drawn, expected)
    assert drawn.unique().numel() == 5


def test_pixel_cnn_pays_the_bits_of_each_pixel() -> None:
    game = built("pixel_cnn", "model.generator.levels=4", "data.batch_size=6")
    levels = game.model.generator.levels_of(BATCH[0])
    assert levels.min() == 0
    assert levels.max() == 3
    chosen = game.model.generator.pixels(BATCH[0]).log_softmax(1).gather(1, levels[:, None])
    noise = torch.randn(6, 256)
    _, scalars = game.update_generator(BATCH, noise, ())
    assert scalars["loss/bits_per_dimension"].item() == pytest.approx(-chosen.mean().item() / math.log(2), rel=1e-4)
    drawn = game.sample(noise, BATCH[1])
    assert set(drawn.unique().tolist()) <= set(torch.linspace(-1, 1, 4).tolist())


def test_vq_vae_rounds_codes_and_lets_gradients_through(tmp_path: Path) -> None:
    game = built("vq_vae", "data.batch_size=6")
    network = game.model.generator
    maps = network.encoder(BATCH[0])
    numbers = network.nearest(maps)
    distances = (maps.movedim(1, -1)[..., None, :] - network.codebook).square().sum(-1)
    assert torch.equal(numbers, distances.argmin(-1))
    fake = game.model.fake(BATCH, torch.randn(6, 16))
    assert torch.allclose(fake.images, network.images(network.vectors(numbers)), atol=1e-4)
    grads = torch.autograd.grad(fake.images.sum(), [*network.encoder.parameters()], retain_graph=True)
    assert all(grad.abs().sum() > 0 for grad in grads[-2:])
    costs = game.model.generator_costs(BATCH, None, fake, game.judge, game.loss.hide)
    assert costs["commitment"].item() == pytest.approx(0.25 * costs["codebook"].item(), rel=1e-5)
    untouched = torch.autograd.grad(costs["prior"], [*network.encoder.parameters(), network.codebook], allow_unused=True)
    assert all(grad is None for grad in untouched), "codes do not feel their prior"


@pytest.mark.process
def test_what_draws_place_by_place_is_not_exported(tmp_path: Path) -> None:
    play(tmp_path / "run", "budget.images=32", model="vq_vae")
    done = commands.run("export.py", f"run={tmp_path / 'run'}", folder=tmp_path)
    assert (done.code, done.errors.count("\n")) == (2, 1)
    assert "model=vq_vae draws one place after the other" in done.errors


def test_cluster_gan_finds_category_and_style_of_a_fake(tmp_path: Path) -> None:
    game = built("cluster_gan", "model.generator.categories=4", "data.batch_size=6")
    codes = game.model.generator.prior(LATENTS)
    assert torch.equal(codes[:, :4].argmax(1), LATENTS[:, :4].argmax(1))
    assert torch.equal(codes[:, :4].sum(1), torch.ones(6))
    assert torch.allclose(codes[:, 4:], 0.1 * LATENTS[:, 4:])
    fake = game.model.fake(BATCH, LATENTS)
    found = game.model.encoder(fake.images)
    costs = game.model.generator_costs(BATCH, None, fake, game.judge, game.loss.hide)
    assert costs["category"].item() == pytest.approx(torch.nn.functional.cross_entropy(found[:, :4], codes[:, :4]).item(), rel=1e-3)
    assert costs["style"].item() == pytest.approx((found[:, 4:] - codes[:, 4:]).square().mean().item(), rel=1e-3)
    assert game.meaning == "codes"
    assert torch.equal(game.classes_of(LATENTS), LATENTS[:, :4].argmax(1))
    with pytest.raises(ConfigurationError, match=r"categories=16: of 16 latents none is left for the style; set .*latent_size=17"):
        small("model.generator.categories=16", model="cluster_gan")


def test_categories_of_real_images_are_matched_with_their_classes(tmp_path: Path) -> None:
    summary = play(tmp_path / "run", "budget.images=32", "model.generator.categories=4", model="cluster_gan")
    model: Any = load(tmp_path / "run").game.model
    data: Any = instantiate(small("model.generator.categories=4", model="cluster_gan").data)
    images, labels = data.held_out(0, 192, CPU, "test")
    clusters = model.clusters(images, labels)
    orders = itertools.permutations(range(4))
    best = max((clusters == torch.tensor(order)[labels]).double().mean().item() for order in orders)
    assert summary["measures"]["cluster_accuracy_test"] == pytest.approx(best)


def test_a_categorical_aae_compares_certain_categories_and_normal_styles_with_codes() -> None:
    game = built("categorical_aae", "model.generator.categories=4", "data.batch_size=6", "data.num_labels=4")
    real, fake = game.model.real(BATCH, LATENTS), game.model.fake(BATCH, LATENTS)
    assert torch.equal(real.images[:, :4].sort(1).values, torch.tensor([0.0, 0, 0, 1]).expand(6, 4))
    assert torch.equal(real.images[:, 4:], LATENTS[:, 4:])
    found = game.model.encoder(BATCH[0])
    assert torch.allclose(fake.images[:, :4], found[:, :4].softmax(1), atol=1e-3)
    known = BATCH[0].flip(0), BATCH[1].flip(0)
    costs = game.model.generator_costs((*BATCH, *known), None, fake, game.judge, game.loss.hide)
    logits = game.model.encoder(known[0])[:, :4]
    assert costs["labelled"].item() == pytest.approx(torch.nn.functional.cross_entropy(logits, known[1]).item(), rel=1e-2)
    restored = game.model.decode(fake.images, BATCH[1])
    assert costs["reconstruction"].item() == pytest.approx(50 * (restored - BATCH[0]).square().mean().item(), rel=1e-2)
    assert set(built("categorical_aae").model.generator_costs(BATCH, None, fake, game.judge, game.loss.hide)) == {"reconstruction"}


@pytest.mark.parametrize("model", CATEGORIES)
def test_a_picture_of_styles_has_a_real_image_and_its_style_in_every_category(model: str) -> None:
    game = built(model, "model.generator.categories=4").eval()
    shown = game.pictures(BATCH)["styles"]
    assert (shown.columns, shown.images.shape) == (5, (30, 1, 16, 16))
    rows = shown.images.unflatten(0, (6, 5))
    assert torch.equal(rows[:, 0], BATCH[0])
    style = game.model.encoder(BATCH[0])[:, 4:]
    third = torch.tensor([0.0, 0, 1, 0]).expand(6, 4)
    assert torch.allclose(rows[:, 3], game.model.decode(torch.cat([third, style], 1), BATCH[1]).float(), atol=1e-5)
    assert not torch.allclose(rows[0, 3], rows[1, 3], atol=1e-4), "each row has a style of its own"
